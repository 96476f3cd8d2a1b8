-- Give each way in which a role may do more than its rights: by what it is, by a role it is in, or by a right it has.
-- $1 text schema, $2 text owner, $3 text application, $4 text reader, $5 text[] relation, $6 text[] role (application or
-- reader), $7 text[] privileges (a list with commas), one a relation and role
SELECT role.rolname::text AS name, 'is a superuser, or may bypass what guards the tables' AS excess
FROM pg_roles AS role
WHERE role.rolname IN ($2::text, $3::text, $4::text)
    AND (role.rolsuper OR role.rolcreaterole OR role.rolreplication OR role.rolbypassrls)
UNION ALL
SELECT member.rolname::text, format('is a member of %I', role.rolname)
FROM pg_roles AS member
JOIN pg_roles AS role ON role.rolname = $2::text OR (role.rolname = $3::text AND member.rolname = $4::text)
WHERE member.rolname IN ($3::text, $4::text) AND NOT member.rolsuper AND pg_has_role(member.oid, role.oid, 'MEMBER')
UNION ALL
SELECT role.rolname::text, format('may CREATE in schema %I', $1::text)
FROM pg_roles AS role
JOIN pg_namespace AS schema ON schema.nspname = $1::text
WHERE role.rolname IN ($3::text, $4::text) AND NOT role.rolsuper
    AND has_schema_privilege(role.oid, schema.oid, 'CREATE')
UNION ALL
SELECT role.rolname::text, format('may %s %I', privilege.name, relation.relname)
FROM pg_roles AS role
CROSS JOIN pg_class AS relation
CROSS JOIN unnest(CASE relation.relkind WHEN 'S' THEN ARRAY['USAGE', 'SELECT', 'UPDATE']
    ELSE ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER'] END) AS privilege (name)
WHERE role.rolname IN ($3::text, $4::text) AND NOT role.rolsuper
    AND relation.relname = ANY ($5::text[])
    AND relation.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = $1::text)
    AND CASE relation.relkind WHEN 'S' THEN has_sequence_privilege(role.oid, relation.oid, privilege.name)
        ELSE has_table_privilege(role.oid, relation.oid, privilege.name) END
    AND NOT EXISTS (SELECT 1
        FROM unnest($5::text[], $6::text[], $7::text[]) AS rights (relation, role, privileges)
        WHERE rights.relation = relation.relname
            AND role.rolname = CASE rights.role WHEN 'application' THEN $3::text WHEN 'reader' THEN $4::text END
            AND privilege.name = ANY (string_to_array(rights.privileges, ', ')))
