-- Read what `doctor` checks of a server, a schema, a role, and the flows that wait for workers.

-- name: count_due_runs
-- Count the due flows of each definition, and those that are overdue, the longest due first. Flows
-- that programs run by themselves are left out, here and below: they wait for their program.
-- $1 timestamptz before which the flows are due, $2 timestamptz before which they are overdue
SELECT run.definition_hash, count(*) AS flows,
    count(*) FILTER (WHERE run.due_at < $2) AS overdue, min(run.due_at) AS due_at
FROM flow_runs AS run
WHERE run.due_at < $1 AND NOT run.by_program
GROUP BY run.definition_hash
ORDER BY min(run.due_at), run.definition_hash

-- name: count_failed_runs
-- Count the flows that have failed and are not due by themselves, up to a bound. Children are left
-- out: what a failed one means is decided by its parent; and so are imported flows. The conditions
-- on steps and on the first event name both tables, so that they are looked at for failed flows
-- alone, and not for each that waits.
-- $1 bigint the bound
SELECT count(*) AS flows
FROM (SELECT run.flow_id
    FROM (SELECT DISTINCT event.flow_id FROM event_log AS event
        WHERE event.event_type = 'stepfailed') AS failed
    JOIN flow_runs AS run ON run.flow_id = failed.flow_id
    WHERE run.due_at = 'infinity' AND run.lease IS NULL AND NOT run.by_program
        AND (SELECT count(*) FROM imported_flows AS imported
            WHERE imported.flow_id = failed.flow_id AND imported.flow_id = run.flow_id) = 0
        AND (SELECT count(*) FROM workflow_step_executions AS step
            WHERE step.flow_id = failed.flow_id AND step.flow_id = run.flow_id
                AND step.status = 'failed') > 0
        AND (SELECT count(*) FROM event_log AS event
            WHERE event.flow_id = failed.flow_id AND event.flow_id = run.flow_id
                AND event.version = 0 AND event.payload ? 'parent') = 0
    LIMIT $1) AS found

-- name: describe_archive
-- Return the last row of the register of archives: its number, and when it was written.
SELECT gone.archive_no, gone.archived_at
FROM archived_flows AS gone
ORDER BY gone.archive_no DESC
LIMIT 1

-- name: describe_role
-- Return the current role, its rights on the log and the schema, which of some roles exist, and
-- which of these it is a member of.
-- $1 text schema, $2 text[] role
SELECT current_user::text AS name, quote_ident(current_user) AS quoted_name,
    role.rolsuper AS is_superuser,
    coalesce((SELECT pg_has_role(relation.relowner, 'MEMBER') FROM pg_class AS relation
        WHERE relation.relname = 'event_log'
            AND relation.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = $1::text)),
                false) AS is_owner,
    coalesce((SELECT has_schema_privilege(oid, 'USAGE') FROM pg_namespace WHERE nspname = $1::text),
        false) AS may_use_schema,
    ARRAY(SELECT rolname::text FROM pg_roles WHERE rolname = ANY ($2::text[])
        ORDER BY rolname) AS existing,
    ARRAY(SELECT rolname::text FROM pg_roles
        WHERE rolname = ANY ($2::text[]) AND pg_has_role(oid, 'MEMBER')
        ORDER BY rolname) AS groups
FROM pg_roles AS role
WHERE role.rolname = current_user

-- name: describe_server
-- Return the server's version and the settings of this session that the library's guarantees depend
-- on.
SELECT current_setting('server_version') AS server_version,
    current_setting('server_version_num')::integer / 10000 AS major_version,
    current_setting('server_encoding') AS encoding,
    pg_is_in_recovery() AS is_standby,
    current_setting('transaction_read_only') = 'on' AS is_read_only,
    current_setting('fsync') AS fsync,
    current_setting('full_page_writes') AS full_page_writes,
    current_setting('synchronous_commit') AS synchronous_commit,
    current_setting('session_replication_role') AS replication_role,
    current_setting('autovacuum') AS autovacuum,
    current_database()::text AS database

-- name: find_archivists
-- Return the roles that are members of a role.
-- $1 text role
SELECT held.member::regrole::text AS member
FROM pg_auth_members AS held
JOIN pg_roles AS role ON role.oid = held.roleid
WHERE role.rolname = $1::text
ORDER BY 1

-- name: find_due_run
-- Return the longest due flow of a definition, and its name.
-- $1 text definition_hash
SELECT run.flow_id, (SELECT event.payload ->> 'name' FROM event_log AS event
    WHERE event.flow_id = run.flow_id AND event.version = 0) AS name
FROM flow_runs AS run
WHERE run.definition_hash = $1 AND NOT run.by_program
ORDER BY run.due_at
LIMIT 1

-- name: find_failed_run
-- Return the flow of count_failed_runs that failed first, and when. The index of failures is walked
-- in the order of the log until there is one that is the last of its flow: scalar subqueries,
-- because a join would read them all.
SELECT failure.flow_id, failure.ts AS failed_at
FROM event_log AS failure
WHERE failure.seq = (SELECT event.seq
    FROM event_log AS event
    WHERE event.event_type = 'stepfailed'
        AND (SELECT count(*) FROM flow_runs AS run
            WHERE run.flow_id = event.flow_id AND run.due_at = 'infinity' AND run.lease IS NULL
                AND NOT run.by_program) > 0
        AND (SELECT count(*) FROM imported_flows AS imported
            WHERE imported.flow_id = event.flow_id) = 0
        AND (SELECT count(*) FROM workflow_step_executions AS step
            WHERE step.flow_id = event.flow_id AND step.status = 'failed') > 0
        AND (SELECT count(*) FROM event_log AS later
            WHERE later.flow_id = event.flow_id AND later.seq > event.seq
                AND CASE WHEN later.event_type = 'stepfailed' THEN true ELSE false END) = 0
        AND (SELECT count(*) FROM event_log AS first_event
            WHERE first_event.flow_id = event.flow_id AND first_event.version = 0
                AND first_event.payload ? 'parent') = 0
    ORDER BY event.seq
    LIMIT 1)

-- name: find_feed_holders
-- Return the sessions whose transaction has appended, and has been open for longer than a time.
-- $1 interval
SELECT activity.pid, activity.usename::text AS usename, activity.application_name,
    extract(epoch FROM clock_timestamp() - activity.xact_start)::double precision AS seconds
FROM pg_stat_activity AS activity
WHERE activity.xact_start < clock_timestamp() - $1::interval
    AND activity.pid IN (SELECT locks.pid
        FROM pg_locks AS locks
        WHERE locks.locktype = 'advisory' AND locks.objsubid = 2
            AND locks.classid = 'event_log_seq_seq'::regclass
            AND locks.database = (SELECT own.oid FROM pg_database AS own
                WHERE own.datname = current_database()))
ORDER BY activity.xact_start

-- name: find_foreign_objects
-- Return what others have added to tables of the library: triggers, rules and row security. Those
-- of extensions are left out.
-- $1 text schema, $2 text[] table, $3 text[] trigger of the library
SELECT relation.relname::text AS table_name, 'trigger' AS kind, trigger.tgname::text AS name,
    format('DROP TRIGGER %I ON %s', trigger.tgname, relation.oid::regclass) AS remedy
FROM pg_trigger AS trigger
JOIN pg_class AS relation ON relation.oid = trigger.tgrelid
WHERE NOT trigger.tgisinternal AND trigger.tgname <> ALL ($3::text[])
    AND relation.relname = ANY ($2::text[])
    AND relation.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = $1::text)
    AND NOT EXISTS (SELECT 1 FROM pg_depend AS dependency
        WHERE dependency.classid = 'pg_proc'::regclass AND dependency.objid = trigger.tgfoid
            AND dependency.deptype = 'e')
UNION ALL
SELECT relation.relname::text, 'rule', rule.rulename::text,
    format('DROP RULE %I ON %s', rule.rulename, relation.oid::regclass)
FROM pg_rewrite AS rule
JOIN pg_class AS relation ON relation.oid = rule.ev_class
WHERE relation.relkind = 'r' AND relation.relname = ANY ($2::text[])
    AND relation.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = $1::text)
UNION ALL
SELECT relation.relname::text, 'row security', 'row security',
    format('ALTER TABLE %s DISABLE ROW LEVEL SECURITY', relation.oid::regclass)
FROM pg_class AS relation
WHERE relation.relrowsecurity AND relation.relname = ANY ($2::text[])
    AND relation.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = $1::text)
ORDER BY table_name, kind, name

-- name: find_future_flow
-- Return by how many seconds the newest flow's begin is ahead of the server's clock: negative if it
-- is in the past, null if there are no flows.
SELECT extract(epoch FROM max(ts) - clock_timestamp())::double precision AS seconds
FROM event_log
WHERE version = 0

-- name: find_missing_rights
-- Return the rights on relations of a schema that a role should have but lacks.
-- $1 text schema, $2 text role, $3 text[] relation, $4 text[] privileges of each relation
-- (separated by commas)
SELECT wanted.relation, privilege.name AS privilege
FROM unnest($3::text[], $4::text[]) AS wanted (relation, privileges)
CROSS JOIN LATERAL string_to_table(wanted.privileges, ', ') AS privilege (name)
JOIN pg_class AS relation ON relation.relname = wanted.relation
    AND relation.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = $1::text)
WHERE NOT CASE relation.relkind
    WHEN 'S' THEN has_sequence_privilege($2::text, relation.oid, privilege.name)
    ELSE has_table_privilege($2::text, relation.oid, privilege.name) END
ORDER BY wanted.relation, privilege.name

-- name: find_old_transactions
-- Return the transactions, of sessions and prepared ones, that have been open for too long for
-- VACUUM.
-- $1 interval
SELECT format('session %s of %s in %s', activity.pid, activity.usename, activity.datname) AS name,
    extract(epoch FROM clock_timestamp() - activity.xact_start)::double precision AS seconds,
    format('SELECT pg_terminate_backend(%s)', activity.pid) AS remedy
FROM pg_stat_activity AS activity
WHERE activity.xact_start < clock_timestamp() - $1::interval
    AND activity.backend_type = 'client backend'
    AND activity.pid <> pg_backend_pid()
UNION ALL
SELECT format('prepared transaction %L in %s', prepared.gid, prepared.database),
    extract(epoch FROM clock_timestamp() - prepared.prepared)::double precision,
    format('ROLLBACK PREPARED %L', prepared.gid)
FROM pg_prepared_xacts AS prepared
WHERE prepared.prepared < clock_timestamp() - $1::interval
ORDER BY seconds DESC

-- name: find_temporary_first
-- Return the roles and databases whose own search path does not name pg_temp: on a session that a
-- pooler shares, temporary tables of others then come first.
SELECT format('ALTER %s SET search_path = %s, pg_temp', CASE WHEN role.rolname IS NULL
        THEN format('DATABASE %I', database.datname) ELSE format('ROLE %I', role.rolname) END,
            setting.path) AS remedy,
    coalesce('role ' || role.rolname, 'database ' || database.datname) AS name
FROM pg_db_role_setting AS own
CROSS JOIN LATERAL (
    SELECT substr(entry, length('search_path=') + 1) AS path
    FROM unnest(own.setconfig) AS entry
    WHERE entry LIKE 'search\_path=%'
) AS setting
LEFT JOIN pg_roles AS role ON role.oid = own.setrole
LEFT JOIN pg_database AS database ON database.oid = own.setdatabase
WHERE setting.path !~ '\mpg_temp\M'
    AND (own.setdatabase = 0 OR database.datname = current_database())
ORDER BY name

-- name: list_runs_due_soon
-- List flows that nobody holds and that are due within a time, first those that a worker may have
-- given back: no step of theirs waits, or is to be tried again.
-- $1 timestamptz the present, $2 timestamptz the end of that time, $3 bigint maximum number of rows
SELECT run.flow_id, run.definition_hash,
    (SELECT count(*) FROM workflow_step_executions AS step
        WHERE step.flow_id = run.flow_id AND step.status IN ('waiting', 'pending',
            'awaiting_user_input')) AS waits
FROM flow_runs AS run
WHERE run.lease IS NULL AND run.due_at > $1 AND run.due_at <= $2 AND NOT run.by_program
ORDER BY waits, run.due_at
LIMIT $3

-- name: measure_bloat
-- Return the schema's tables with their live and dead rows, as estimated by the server.
-- $1 text schema
SELECT relation.relname::text AS name, format('%I.%I', $1::text, relation.relname) AS quoted_name,
    pg_stat_get_live_tuples(relation.oid) AS live_rows,
    pg_stat_get_dead_tuples(relation.oid) AS dead_rows
FROM pg_class AS relation
WHERE relation.relkind = 'r'
    AND relation.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = $1::text)
ORDER BY relation.relname COLLATE "C"

-- name: measure_connections
-- Return the limits on this role's connections to this database (-1: unlimited), and how many of
-- each are used by other sessions.
SELECT current_setting('max_connections')::integer
        - CASE WHEN role.rolsuper THEN 0
            ELSE current_setting('superuser_reserved_connections')::integer
                + coalesce(current_setting('reserved_connections', true)::integer, 0)
            END AS server_limit,
    CASE WHEN role.rolsuper THEN -1 ELSE database.datconnlimit END AS database_limit,
    CASE WHEN role.rolsuper THEN -1 ELSE role.rolconnlimit END AS role_limit,
    (SELECT count(*) FROM pg_stat_activity
        WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()) AS server_used,
    (SELECT count(*) FROM pg_stat_activity
        WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()
        AND datid = database.oid) AS database_used,
    (SELECT count(*) FROM pg_stat_activity
        WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()
        AND usesysid = role.oid) AS role_used,
    quote_ident(database.datname) AS quoted_database, quote_ident(role.rolname) AS quoted_role
FROM pg_database AS database
CROSS JOIN pg_roles AS role
WHERE database.datname = current_database() AND role.rolname = current_user

-- name: measure_wraparound
-- Return the age of each database's oldest transaction and multixact ids, the oldest first, and the
-- age at which VACUUM is forced. The server stops all writes when one reaches 2^31 (manual, section
-- 24.1.5).
SELECT ids.kind, database.datname::text AS database, ids.age, ids.forced_at
FROM pg_database AS database
CROSS JOIN LATERAL (
    VALUES ('transaction', age(database.datfrozenxid),
        current_setting('autovacuum_freeze_max_age')::bigint),
        ('multixact', mxid_age(database.datminmxid),
            current_setting('autovacuum_multixact_freeze_max_age')::bigint)
) AS ids (kind, age, forced_at)
ORDER BY ids.age DESC, database.datname, ids.kind

-- name: read_clock
-- Read the server's clock.
SELECT clock_timestamp() AS now

-- name: sum_consumers
-- Count for each durable consumer the flows that it has parked, and the parts whose last tries have
-- failed; return one of their errors.
SELECT consumer.name, parked.flows AS parked, consumer.failing,
    coalesce(consumer.error, parked.error) AS error
FROM (
    SELECT own.name, count(*) FILTER (WHERE own.error IS NOT NULL) AS failing,
        max(own.error) AS error
    FROM feed_consumers AS own
    GROUP BY own.name
) AS consumer
CROSS JOIN LATERAL (
    SELECT count(*) AS flows, max(aside.error) AS error
    FROM feed_parked AS aside
    WHERE aside.name = consumer.name
) AS parked
ORDER BY consumer.name
