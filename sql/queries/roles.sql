-- Create the roles of owner, application, reader and archivist, and grant their rights.

-- name: find_excess
-- Return the ways in which a role can do more than its rights: by an attribute, by a role that it
-- is a member of, or by a privilege.
-- $1 text schema, $2 text owner, $3 text application, $4 text reader, $5 text archivist, $6 text[]
-- relation, $7 text[] role (application, reader or archivist), $8 text[] privileges of each
-- relation and role (separated by commas)
SELECT role.rolname::text AS name, 'is a superuser, or may bypass what guards the tables' AS excess
FROM pg_roles AS role
WHERE role.rolname IN ($2::text, $3::text, $4::text, $5::text)
    AND (role.rolsuper OR role.rolcreaterole OR role.rolreplication OR role.rolbypassrls)
UNION ALL
SELECT member.rolname::text, format('is a member of %I', role.rolname)
FROM pg_roles AS member
JOIN pg_roles AS role
    ON role.rolname = $2::text OR (role.rolname = $3::text AND member.rolname = $4::text)
        OR (role.rolname = $5::text AND member.rolname IN ($3::text, $4::text))
WHERE member.rolname IN ($3::text, $4::text, $5::text) AND NOT member.rolsuper
    AND pg_has_role(member.oid, role.oid, 'MEMBER')
UNION ALL
SELECT role.rolname::text, format('may CREATE in schema %I', $1::text)
FROM pg_roles AS role
JOIN pg_namespace AS schema ON schema.nspname = $1::text
WHERE role.rolname IN ($3::text, $4::text, $5::text) AND NOT role.rolsuper
    AND has_schema_privilege(role.oid, schema.oid, 'CREATE')
UNION ALL
SELECT role.rolname::text, format('may %s %I', privilege.name, relation.relname)
FROM pg_roles AS role
CROSS JOIN pg_class AS relation
CROSS JOIN unnest(CASE relation.relkind WHEN 'S' THEN ARRAY['USAGE', 'SELECT', 'UPDATE']
    ELSE ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER'] END)
        AS privilege (name)
WHERE role.rolname IN ($3::text, $4::text, $5::text) AND NOT role.rolsuper
    AND relation.relname = ANY ($6::text[])
    AND relation.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = $1::text)
    AND CASE relation.relkind
        WHEN 'S' THEN has_sequence_privilege(role.oid, relation.oid, privilege.name)
        ELSE has_table_privilege(role.oid, relation.oid, privilege.name) END
    AND NOT EXISTS (SELECT 1
        FROM unnest($6::text[], $7::text[], $8::text[]) AS rights (relation, role, privileges)
        WHERE rights.relation = relation.relname
            AND role.rolname = CASE rights.role WHEN 'application' THEN $3::text
                WHEN 'reader' THEN $4::text WHEN 'archivist' THEN $5::text END
            AND privilege.name = ANY (string_to_array(rights.privileges, ', ')))
UNION ALL
SELECT role.rolname::text, 'may EXECUTE archive_flows'
FROM pg_roles AS role
CROSS JOIN pg_proc AS routine
WHERE role.rolname IN ($3::text, $4::text) AND NOT role.rolsuper
    AND routine.proname = 'archive_flows'
    AND routine.pronamespace = (SELECT oid FROM pg_namespace WHERE nspname = $1::text)
    AND has_function_privilege(role.oid, routine.oid, 'EXECUTE')

-- name: find_missing_relations
-- Return which of some relations the schema lacks.
-- $1 text schema, $2 text[] relation
SELECT DISTINCT wanted.relation
FROM unnest($2::text[]) AS wanted (relation)
WHERE NOT EXISTS (SELECT 1 FROM pg_class AS relation
    WHERE relation.relname = wanted.relation
        AND relation.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = $1::text))
ORDER BY wanted.relation

-- name: find_roles_of_other_databases
-- Return those of some roles that own something or have rights in other databases, with the name of
-- one of these, and not in this database.
-- $1 text[] role
SELECT role.rolname::text AS name, min(database.datname)::text AS database
FROM pg_roles AS role
JOIN pg_shdepend AS dependency
    ON dependency.refclassid = 'pg_authid'::regclass AND dependency.refobjid = role.oid
JOIN pg_database AS database ON database.oid = dependency.dbid
WHERE role.rolname = ANY ($1::text[])
GROUP BY role.oid, role.rolname
HAVING NOT bool_or(database.datname = current_database())
ORDER BY role.rolname

-- name: list_rights
-- List the rights of each role that does not own the tables; these roles have no right on other
-- relations. The archivist appends seals. Only a distributed log has event_log_seq_checks.
-- $1 text schema
SELECT rights.relation, rights.role, rights.privileges
FROM (VALUES
    ('event_log', 'application', ARRAY['SELECT', 'INSERT']),
    ('event_log_seq_seq', 'application', ARRAY['USAGE', 'SELECT']),
    ('event_log_seq_checks', 'application', ARRAY['USAGE', 'SELECT']),
    ('workflow_step_artifacts', 'application', ARRAY['SELECT', 'INSERT']),
    ('workflow_step_artifact_chunks', 'application', ARRAY['SELECT', 'INSERT']),
    ('workflow_step_executions', 'application', ARRAY['SELECT', 'INSERT', 'UPDATE']),
    ('flow_snapshots', 'application', ARRAY['SELECT', 'INSERT', 'UPDATE']),
    ('flow_runs', 'application', ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']),
    ('imported_flows', 'application', ARRAY['SELECT', 'INSERT']),
    ('archived_flows', 'application', ARRAY['SELECT']),
    ('archived_flows_archive_no_seq', 'application', ARRAY['SELECT']),
    ('workflow_step_artifact_uses', 'application', ARRAY['SELECT', 'INSERT']),
    ('flow_workers', 'application', ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']),
    ('resource_slots', 'application', ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']),
    ('resource_waits', 'application', ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']),
    ('feed_consumers', 'application', ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']),
    ('feed_parked', 'application', ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']),
    ('flows', 'application', ARRAY['SELECT']),
    ('step_execution_errors', 'application', ARRAY['SELECT']),
    ('step_statistics', 'application', ARRAY['SELECT']),
    ('step_durations', 'application', ARRAY['SELECT']),
    ('failure_statistics', 'application', ARRAY['SELECT']),
    ('hourly_throughput', 'application', ARRAY['SELECT']),
    ('artifact_statistics', 'application', ARRAY['SELECT']),
    ('statistics_refresh', 'application', ARRAY['SELECT']),
    ('schema_migrations', 'application', ARRAY['SELECT']),
    ('event_log', 'reader', ARRAY['SELECT']),
    ('event_log_seq_seq', 'reader', ARRAY['SELECT']),
    ('event_log_seq_checks', 'reader', ARRAY['SELECT']),
    ('workflow_step_artifacts', 'reader', ARRAY['SELECT']),
    ('workflow_step_artifact_chunks', 'reader', ARRAY['SELECT']),
    ('workflow_step_executions', 'reader', ARRAY['SELECT']),
    ('flow_snapshots', 'reader', ARRAY['SELECT']),
    ('flow_runs', 'reader', ARRAY['SELECT']),
    ('imported_flows', 'reader', ARRAY['SELECT']),
    ('archived_flows', 'reader', ARRAY['SELECT']),
    ('archived_flows_archive_no_seq', 'reader', ARRAY['SELECT']),
    ('workflow_step_artifact_uses', 'reader', ARRAY['SELECT']),
    ('flow_workers', 'reader', ARRAY['SELECT']),
    ('resource_slots', 'reader', ARRAY['SELECT']),
    ('resource_waits', 'reader', ARRAY['SELECT']),
    ('feed_consumers', 'reader', ARRAY['SELECT']),
    ('feed_parked', 'reader', ARRAY['SELECT']),
    ('flows', 'reader', ARRAY['SELECT']),
    ('step_execution_errors', 'reader', ARRAY['SELECT']),
    ('step_statistics', 'reader', ARRAY['SELECT']),
    ('step_durations', 'reader', ARRAY['SELECT']),
    ('failure_statistics', 'reader', ARRAY['SELECT']),
    ('hourly_throughput', 'reader', ARRAY['SELECT']),
    ('artifact_statistics', 'reader', ARRAY['SELECT']),
    ('statistics_refresh', 'reader', ARRAY['SELECT']),
    ('schema_migrations', 'reader', ARRAY['SELECT']),
    ('event_log', 'archivist', ARRAY['SELECT', 'INSERT']),
    ('event_log_seq_seq', 'archivist', ARRAY['USAGE', 'SELECT']),
    ('event_log_seq_checks', 'archivist', ARRAY['USAGE', 'SELECT']),
    ('workflow_step_artifacts', 'archivist', ARRAY['SELECT']),
    ('workflow_step_artifact_chunks', 'archivist', ARRAY['SELECT']),
    ('workflow_step_executions', 'archivist', ARRAY['SELECT']),
    ('flow_snapshots', 'archivist', ARRAY['SELECT']),
    ('flow_runs', 'archivist', ARRAY['SELECT', 'UPDATE', 'DELETE']),
    ('imported_flows', 'archivist', ARRAY['SELECT']),
    ('archived_flows', 'archivist', ARRAY['SELECT']),
    ('archived_flows_archive_no_seq', 'archivist', ARRAY['SELECT']),
    ('workflow_step_artifact_uses', 'archivist', ARRAY['SELECT']),
    ('flow_workers', 'archivist', ARRAY['SELECT']),
    ('resource_slots', 'archivist', ARRAY['SELECT']),
    ('resource_waits', 'archivist', ARRAY['SELECT']),
    ('feed_consumers', 'archivist', ARRAY['SELECT']),
    ('feed_parked', 'archivist', ARRAY['SELECT']),
    ('flows', 'archivist', ARRAY['SELECT']),
    ('step_execution_errors', 'archivist', ARRAY['SELECT']),
    ('step_statistics', 'archivist', ARRAY['SELECT']),
    ('step_durations', 'archivist', ARRAY['SELECT']),
    ('failure_statistics', 'archivist', ARRAY['SELECT']),
    ('hourly_throughput', 'archivist', ARRAY['SELECT']),
    ('artifact_statistics', 'archivist', ARRAY['SELECT']),
    ('statistics_refresh', 'archivist', ARRAY['SELECT']),
    ('schema_migrations', 'archivist', ARRAY['SELECT'])
) AS rights (relation, role, privileges)
WHERE rights.relation <> 'event_log_seq_checks' OR EXISTS (SELECT 1 FROM pg_class AS relation
    WHERE relation.relname = rights.relation
        AND relation.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = $1::text))

-- name: quote_create_roles
-- Return the statements that create those of the roles that are missing, quoted by the server.
-- $1 text[] role
SELECT format('CREATE ROLE %I NOLOGIN', wanted.name) AS statement
FROM unnest($1::text[]) WITH ORDINALITY AS wanted (name, place)
WHERE NOT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = wanted.name)
ORDER BY wanted.place

-- name: quote_grants
-- Return the statements that grant three roles the use of the schema, and each its rights on the
-- relations, and the archivist the function that archives.
-- $1 text schema, $2 text application, $3 text reader, $4 text archivist, $5 text[] relation,
-- $6 text[] role (application, reader or archivist), $7 text[] privileges of each relation and role
-- (separated by commas)
SELECT format('GRANT USAGE ON SCHEMA %I TO %I, %I, %I', $1::text, $2::text, $3::text, $4::text)
    AS statement
UNION ALL
SELECT format(
    'GRANT %s ON %s %I.%I TO %I',
    rights.privileges,
    CASE relation.relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END,
    $1::text,
    relation.relname,
    CASE rights.role WHEN 'application' THEN $2::text WHEN 'reader' THEN $3::text
        WHEN 'archivist' THEN $4::text END
)
FROM unnest($5::text[], $6::text[], $7::text[]) AS rights (relation, role, privileges)
JOIN pg_class AS relation ON relation.relname = rights.relation
    AND relation.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = $1::text)
UNION ALL
SELECT format('GRANT EXECUTE ON FUNCTION %s TO %I', routine.oid::regprocedure, $4::text)
FROM pg_proc AS routine
WHERE routine.proname = 'archive_flows'
    AND routine.pronamespace = (SELECT oid FROM pg_namespace WHERE nspname = $1::text)

-- name: quote_ownership
-- Return the statements that make a role the owner of a schema, and of the library's relations,
-- functions and types in it. A sequence that a column owns changes its owner with the table.
-- $1 text schema, $2 text owner, $3 text[] relation, $4 text[] function, $5 text[] type
SELECT format('ALTER SCHEMA %I OWNER TO %I', $1::text, $2::text) AS statement
UNION ALL
SELECT format('ALTER TABLE %I.%I OWNER TO %I', $1::text, relation.relname, $2::text)
FROM pg_class AS relation
WHERE relation.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = $1::text)
    AND relation.relname = ANY ($3::text[])
    AND NOT EXISTS (SELECT 1 FROM pg_depend AS dependency
        WHERE relation.relkind = 'S' AND dependency.classid = 'pg_class'::regclass
            AND dependency.objid = relation.oid AND dependency.deptype IN ('a', 'i'))
UNION ALL
SELECT format(
    'ALTER FUNCTION %I.%I(%s) OWNER TO %I',
    $1::text, routine.proname, pg_get_function_identity_arguments(routine.oid), $2::text
)
FROM pg_proc AS routine
WHERE routine.pronamespace = (SELECT oid FROM pg_namespace WHERE nspname = $1::text)
    AND routine.proname = ANY ($4::text[])
UNION ALL
SELECT format('ALTER TYPE %I.%I OWNER TO %I', $1::text, data_type.typname, $2::text)
FROM pg_type AS data_type
WHERE data_type.typnamespace = (SELECT oid FROM pg_namespace WHERE nspname = $1::text)
    AND data_type.typname = ANY ($5::text[])

-- name: quote_revokes
-- Return the statements that revoke every right on the schema, on the library's relations and on the
-- function that archives, except the owner's. PUBLIC keeps the use of the schema, which may hold tables of other programs.
-- $1 text schema, $2 text[] relation, $3 text application, $4 text reader, $5 text archivist
SELECT format('REVOKE CREATE ON SCHEMA %I FROM PUBLIC', $1::text) AS statement
UNION ALL
SELECT format('REVOKE ALL ON SCHEMA %I FROM %I, %I, %I', $1::text, $3::text, $4::text, $5::text)
UNION ALL
SELECT format(
    'REVOKE ALL ON %s %I.%I FROM PUBLIC, %I, %I, %I',
    CASE relation.relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END, $1::text, relation.relname,
    $3::text, $4::text, $5::text
)
FROM pg_class AS relation
WHERE relation.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = $1::text)
    AND relation.relname = ANY ($2::text[])
UNION ALL
SELECT format('REVOKE ALL ON FUNCTION %s FROM PUBLIC, %I, %I, %I', routine.oid::regprocedure,
    $3::text, $4::text, $5::text)
FROM pg_proc AS routine
WHERE routine.proname = 'archive_flows'
    AND routine.pronamespace = (SELECT oid FROM pg_namespace WHERE nspname = $1::text)
