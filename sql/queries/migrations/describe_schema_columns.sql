-- Write the statements that change how columns are stored, and that let a sequence go with its column.
-- $1 text schema
SELECT part.statement AS statement
FROM (
    SELECT relation.oid, relation.relname, attribute.attnum, format(
        'ALTER TABLE %I ALTER COLUMN %I SET STORAGE %s', relation.relname, attribute.attname,
        CASE attribute.attstorage WHEN 'p' THEN 'PLAIN' WHEN 'e' THEN 'EXTERNAL' WHEN 'm' THEN 'MAIN' ELSE 'EXTENDED' END
    ) AS statement
    FROM pg_class AS relation
    JOIN pg_attribute AS attribute ON attribute.attrelid = relation.oid
    JOIN pg_type AS data_type ON data_type.oid = attribute.atttypid
    WHERE relation.relkind = 'r' AND attribute.attnum > 0 AND attribute.attstorage <> data_type.typstorage
        AND relation.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = $1::text)
    UNION ALL
    SELECT relation.oid, relation.relname, attribute.attnum, format(
        'ALTER SEQUENCE %I OWNED BY %I.%I', sequence.relname, relation.relname, attribute.attname
    )
    FROM pg_class AS sequence
    JOIN pg_depend AS dependency ON dependency.classid = 'pg_class'::regclass AND dependency.objid = sequence.oid
        AND dependency.refclassid = 'pg_class'::regclass AND dependency.deptype = 'a'
    JOIN pg_class AS relation ON relation.oid = dependency.refobjid
    JOIN pg_attribute AS attribute ON attribute.attrelid = relation.oid AND attribute.attnum = dependency.refobjsubid
    WHERE sequence.relkind = 'S'
        AND sequence.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = $1::text)
) AS part
WHERE NOT EXISTS (SELECT 1 FROM pg_depend AS dependency
    WHERE dependency.classid = 'pg_class'::regclass AND dependency.objid = part.oid AND dependency.deptype = 'e')
ORDER BY part.relname COLLATE "C", part.attnum, part.statement COLLATE "C"
