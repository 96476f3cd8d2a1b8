-- Read what `status` shows of a database.

-- name: describe_database
-- Return the server's version, the database with its size, and the current role.
SELECT current_setting('server_version') AS server_version, current_database()::text AS database,
    current_user::text AS role, pg_database_size(current_database()) AS bytes

-- name: find_newest_flow
-- Return when the newest flow began, by the index of first events; null if there are no flows.
SELECT max(ts) AS newest_flow_at
FROM event_log
WHERE version = 0

-- name: measure_relations
-- Return the size of each of a schema's tables with its indexes, and the estimated number of rows
-- (null if not yet known).
-- $1 text schema
SELECT relation.relname::text AS name, pg_total_relation_size(relation.oid) AS bytes,
    pg_relation_size(relation.oid) AS heap_bytes,
    nullif(greatest(relation.reltuples::bigint, pg_stat_get_live_tuples(relation.oid)),
        -1) AS about_rows
FROM pg_class AS relation
WHERE relation.relkind IN ('r', 'm')
    AND relation.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = $1::text)
ORDER BY relation.relname COLLATE "C"
