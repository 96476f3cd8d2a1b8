-- Say who is connected, what that role is to the log, and which of some roles there are and have it as a member.
-- $1 text schema, $2 text[] role
SELECT current_user::text AS name, quote_ident(current_user) AS quoted_name, role.rolsuper AS is_superuser,
    coalesce((SELECT pg_has_role(relation.relowner, 'MEMBER') FROM pg_class AS relation
        WHERE relation.relname = 'event_log'
            AND relation.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = $1::text)), false) AS is_owner,
    coalesce((SELECT has_schema_privilege(oid, 'USAGE') FROM pg_namespace WHERE nspname = $1::text), false) AS may_use_schema,
    ARRAY(SELECT rolname::text FROM pg_roles WHERE rolname = ANY ($2::text[]) ORDER BY rolname) AS existing,
    ARRAY(SELECT rolname::text FROM pg_roles WHERE rolname = ANY ($2::text[]) AND pg_has_role(oid, 'MEMBER')
        ORDER BY rolname) AS groups
FROM pg_roles AS role
WHERE role.rolname = current_user
