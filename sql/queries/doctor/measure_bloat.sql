-- Give the schema's tables with their live and dead rows, as the server counts them.
-- $1 text schema
SELECT relation.relname::text AS name, format('%I.%I', $1::text, relation.relname) AS quoted_name,
    pg_stat_get_live_tuples(relation.oid) AS live_rows, pg_stat_get_dead_tuples(relation.oid) AS dead_rows
FROM pg_class AS relation
WHERE relation.relkind = 'r'
    AND relation.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = $1::text)
ORDER BY relation.relname COLLATE "C"
