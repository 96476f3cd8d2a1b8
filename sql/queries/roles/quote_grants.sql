-- Give the statements that grant the use of the schema to two roles, and to each its rights on the relations.
-- $1 text schema, $2 text application, $3 text reader, $4 text[] relation, $5 text[] role (application or reader),
-- $6 text[] privileges (a list with commas), one a relation and role
SELECT format('GRANT USAGE ON SCHEMA %I TO %I, %I', $1::text, $2::text, $3::text) AS statement
UNION ALL
SELECT format(
    'GRANT %s ON %s %I.%I TO %I',
    rights.privileges,
    CASE relation.relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END,
    $1::text,
    relation.relname,
    CASE rights.role WHEN 'application' THEN $2::text WHEN 'reader' THEN $3::text END
)
FROM unnest($4::text[], $5::text[], $6::text[]) AS rights (relation, role, privileges)
JOIN pg_class AS relation ON relation.relname = rights.relation
    AND relation.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = $1::text)
