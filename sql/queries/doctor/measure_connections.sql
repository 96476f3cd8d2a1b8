-- Give the limits on the connections of this role to this database (-1: none), and how many of each are in use, without this one.
SELECT current_setting('max_connections')::integer
        - CASE WHEN role.rolsuper THEN 0 ELSE current_setting('superuser_reserved_connections')::integer
            + coalesce(current_setting('reserved_connections', true)::integer, 0) END AS server_limit,
    CASE WHEN role.rolsuper THEN -1 ELSE database.datconnlimit END AS database_limit,
    CASE WHEN role.rolsuper THEN -1 ELSE role.rolconnlimit END AS role_limit,
    (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()) AS server_used,
    (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()
        AND datid = database.oid) AS database_used,
    (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()
        AND usesysid = role.oid) AS role_used,
    quote_ident(database.datname) AS quoted_database, quote_ident(role.rolname) AS quoted_role
FROM pg_database AS database
CROSS JOIN pg_roles AS role
WHERE database.datname = current_database() AND role.rolname = current_user
