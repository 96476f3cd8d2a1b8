-- Give the statements that take every right on the schema and on the library's relations from all but the owner.
-- PUBLIC keeps the use of the schema, which may hold other programs' tables.
-- $1 text schema, $2 text[] relation, $3 text application, $4 text reader
SELECT format('REVOKE CREATE ON SCHEMA %I FROM PUBLIC', $1::text) AS statement
UNION ALL
SELECT format('REVOKE ALL ON SCHEMA %I FROM %I, %I', $1::text, $3::text, $4::text)
UNION ALL
SELECT format(
    'REVOKE ALL ON %s %I.%I FROM PUBLIC, %I, %I',
    CASE relation.relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END, $1::text, relation.relname, $3::text, $4::text
)
FROM pg_class AS relation
WHERE relation.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = $1::text)
    AND relation.relname = ANY ($2::text[])
