-- Write the statements that create a schema's views, the plain ones and the materialized ones.
-- $1 text schema
SELECT format(
    E'CREATE %sVIEW %I%s AS\n%s',
    CASE relation.relkind WHEN 'm' THEN 'MATERIALIZED ' ELSE '' END,
    relation.relname,
    CASE WHEN relation.reloptions IS NULL THEN ''
        ELSE format(' WITH (%s)', array_to_string(relation.reloptions, ', ')) END,
    rtrim(pg_get_viewdef(relation.oid, true), ';')
) AS statement
FROM pg_class AS relation
WHERE relation.relkind IN ('v', 'm')
    AND relation.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = $1::text)
    AND NOT EXISTS (SELECT 1 FROM pg_depend AS dependency
        WHERE dependency.classid = 'pg_class'::regclass AND dependency.objid = relation.oid AND dependency.deptype = 'e')
ORDER BY relation.relname COLLATE "C"
