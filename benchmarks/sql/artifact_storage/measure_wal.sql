-- Where the write-ahead log is.
SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn AS place
