-- Write the statements that create a schema's triggers, and that say which of them do not fire as usual.
-- $1 text schema
SELECT part.statement AS statement
FROM pg_trigger AS trigger
JOIN pg_class AS relation ON relation.oid = trigger.tgrelid
CROSS JOIN LATERAL (
    SELECT 1 AS place, pg_get_triggerdef(trigger.oid, true) AS statement
    UNION ALL
    SELECT 2, format(
        'ALTER TABLE %I %s TRIGGER %I', relation.relname,
        CASE trigger.tgenabled WHEN 'D' THEN 'DISABLE' WHEN 'A' THEN 'ENABLE ALWAYS' ELSE 'ENABLE REPLICA' END,
        trigger.tgname
    )
    WHERE trigger.tgenabled <> 'O'
) AS part
WHERE NOT trigger.tgisinternal
    AND relation.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = $1::text)
    AND NOT EXISTS (SELECT 1 FROM pg_depend AS dependency
        WHERE dependency.classid = 'pg_class'::regclass AND dependency.objid = relation.oid AND dependency.deptype = 'e')
ORDER BY relation.relname COLLATE "C", trigger.tgname COLLATE "C", part.place
