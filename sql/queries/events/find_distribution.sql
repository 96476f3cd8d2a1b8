-- Say whether the log is distributed over several servers: Citus gives such a table a trigger of this name.
SELECT EXISTS (SELECT 1
    FROM pg_trigger AS trigger
    JOIN pg_proc AS routine ON routine.oid = trigger.tgfoid
    WHERE trigger.tgrelid = to_regclass('event_log') AND routine.proname = 'citus_truncate_trigger') AS distributed
