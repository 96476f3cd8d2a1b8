-- Say which transactions may still add events before the last one that can be seen: those that hold the lock of a writer,
-- which is taken before a number of the log and given back after the commit can be seen; and which number was given last
-- (null: none yet, or the role may not see it).
SELECT ARRAY(SELECT DISTINCT locks.virtualtransaction
        FROM pg_locks AS locks
        WHERE locks.locktype = 'relation' AND locks.relation = 'event_log'::regclass AND locks.mode = 'RowExclusiveLock'
            AND locks.database = (SELECT oid FROM pg_database WHERE datname = current_database())
            AND locks.granted) AS writers,
    (SELECT last_value FROM pg_sequences WHERE schemaname = current_schema() AND sequencename = 'event_log_seq_seq')
        AS last_seq
