-- Write the statements that create a schema's indexes; those of constraints come with their tables.
-- $1 text schema
SELECT pg_get_indexdef(index.indexrelid, 0, true)
    || CASE WHEN index.indisvalid THEN '' ELSE ' /* invalid */' END AS statement
FROM pg_index AS index
JOIN pg_class AS relation ON relation.oid = index.indexrelid
WHERE relation.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = $1::text)
    AND NOT EXISTS (SELECT 1 FROM pg_constraint WHERE conindid = index.indexrelid AND contype IN ('p', 'u', 'x'))
    AND NOT EXISTS (SELECT 1 FROM pg_depend AS dependency
        WHERE dependency.classid = 'pg_class'::regclass AND dependency.objid = index.indrelid
            AND dependency.deptype = 'e')
ORDER BY relation.relname COLLATE "C"
