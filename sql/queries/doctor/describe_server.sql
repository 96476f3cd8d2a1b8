-- Give the settings of the server, as this session has them, that the library's promises depend on.
SELECT current_setting('server_version') AS server_version,
    current_setting('server_version_num')::integer / 10000 AS major_version,
    current_setting('server_encoding') AS encoding,
    pg_is_in_recovery() AS is_standby,
    current_setting('transaction_read_only') = 'on' AS is_read_only,
    current_setting('fsync') AS fsync,
    current_setting('full_page_writes') AS full_page_writes,
    current_setting('synchronous_commit') AS synchronous_commit,
    current_setting('session_replication_role') AS replication_role,
    current_setting('autovacuum') AS autovacuum,
    current_database()::text AS database
