-- Write the statements that create a schema's sequences; those of identity columns come with their tables.
-- $1 text schema
SELECT format(
    E'CREATE SEQUENCE %I AS %s\n    START %s INCREMENT %s MINVALUE %s MAXVALUE %s CACHE %s %s',
    relation.relname, format_type(sequence.seqtypid, NULL),
    sequence.seqstart, sequence.seqincrement, sequence.seqmin, sequence.seqmax, sequence.seqcache,
    CASE WHEN sequence.seqcycle THEN 'CYCLE' ELSE 'NO CYCLE' END
) AS statement
FROM pg_sequence AS sequence
JOIN pg_class AS relation ON relation.oid = sequence.seqrelid
WHERE relation.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = $1::text)
    AND NOT EXISTS (SELECT 1 FROM pg_depend AS dependency
        WHERE dependency.classid = 'pg_class'::regclass AND dependency.objid = relation.oid
            AND dependency.deptype IN ('e', 'i'))
ORDER BY relation.relname COLLATE "C"
