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

-- name: list_parts
-- Return the names of a schema's tables, columns of tables, views and functions, each with what it
-- is.
-- $1 text schema
SELECT CASE WHEN relation.relkind IN ('v', 'm') THEN 'view ' ELSE 'table ' END
    || relation.relname AS part
FROM pg_class AS relation
WHERE relation.relkind IN ('r', 'p', 'v', 'm')
    AND relation.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = $1::text)
UNION ALL
SELECT 'column ' || relation.relname || '.' || attribute.attname
FROM pg_class AS relation
JOIN pg_attribute AS attribute ON attribute.attrelid = relation.oid
WHERE relation.relkind IN ('r', 'p') AND attribute.attnum > 0 AND NOT attribute.attisdropped
    AND relation.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = $1::text)
UNION ALL
SELECT 'function ' || routine.proname
FROM pg_proc AS routine
WHERE routine.pronamespace = (SELECT oid FROM pg_namespace WHERE nspname = $1::text)

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
