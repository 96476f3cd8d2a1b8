-- Give the size of each of a schema's tables with its indexes, and about how many rows it has (null: not known yet).
-- $1 text schema
SELECT relation.relname::text AS name, pg_total_relation_size(relation.oid) AS bytes,
    pg_relation_size(relation.oid) AS heap_bytes,
    nullif(greatest(relation.reltuples::bigint, pg_stat_get_live_tuples(relation.oid)), -1) AS about_rows
FROM pg_class AS relation
WHERE relation.relkind IN ('r', 'm')
    AND relation.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = $1::text)
ORDER BY relation.relname COLLATE "C"
