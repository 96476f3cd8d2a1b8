-- Write the statements that add the constraints which a new table cannot have yet: foreign keys, and what is not valid.
-- $1 text schema
SELECT format(
    E'ALTER TABLE %I ADD CONSTRAINT %I\n    %s',
    relation.relname, rule.conname, pg_get_constraintdef(rule.oid, true)
) AS statement
FROM pg_constraint AS rule
JOIN pg_class AS relation ON relation.oid = rule.conrelid
WHERE (rule.contype = 'f' OR (rule.contype = 'c' AND NOT rule.convalidated))
    AND relation.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = $1::text)
    AND NOT EXISTS (SELECT 1 FROM pg_depend AS dependency
        WHERE dependency.classid = 'pg_class'::regclass AND dependency.objid = relation.oid AND dependency.deptype = 'e')
ORDER BY relation.relname COLLATE "C", rule.conname COLLATE "C"
