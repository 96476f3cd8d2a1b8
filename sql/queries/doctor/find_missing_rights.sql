-- Give the rights on relations of a schema that a role ought to have and has not.
-- $1 text schema, $2 text role, $3 text[] relation, $4 text[] privileges (a list with commas), one a relation
SELECT wanted.relation, privilege.name AS privilege
FROM unnest($3::text[], $4::text[]) AS wanted (relation, privileges)
CROSS JOIN LATERAL string_to_table(wanted.privileges, ', ') AS privilege (name)
JOIN pg_class AS relation ON relation.relname = wanted.relation
    AND relation.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = $1::text)
WHERE NOT CASE relation.relkind
    WHEN 'S' THEN has_sequence_privilege($2::text, relation.oid, privilege.name)
    ELSE has_table_privilege($2::text, relation.oid, privilege.name) END
ORDER BY wanted.relation, privilege.name
