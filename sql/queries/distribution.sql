-- Read what Citus makes of a server and of the log, and let it reach the workers.

-- name: count_workers
-- Count the nodes that hold shards.
SELECT count(*) AS workers
FROM pg_dist_node
WHERE isactive AND noderole = 'primary' AND shouldhaveshards

-- name: find_citus
-- Return whether the database has the extension Citus.
SELECT EXISTS (SELECT 1 FROM pg_extension WHERE extname = 'citus') AS has_citus

-- name: find_distribution
-- Return whether the log is distributed over several servers: such a table has a trigger of Citus.
SELECT EXISTS (SELECT 1
    FROM pg_trigger AS trigger
    WHERE trigger.tgrelid = to_regclass('event_log')
        AND trigger.tgfoid = to_regproc('citus_truncate_trigger')) AS distributed

-- name: find_work_of_nodes
-- Return whether a node of the cluster works for a session of its coordinator, or did a moment ago:
-- a statement of many short commands, as that which distributes a table, may be between two. The
-- process id is null behind a pooler; then work for any session of this role counts. The global id
-- of a session is the number of its coordinator, followed by its process id in ten digits.
-- $1 integer process id, or null, $2 integer milliseconds that count as a moment
SELECT EXISTS (SELECT 1 FROM citus_stat_activity AS activity
    WHERE activity.is_worker_query AND (activity.state = 'active'
            OR activity.state_change > clock_timestamp() - $2::integer * interval '1 ms')
        AND activity.global_pid % 10000000000 <> pg_backend_pid()
        AND CASE WHEN $1::integer IS NULL THEN activity.usename = current_user
            ELSE activity.global_pid % 10000000000 = $1::integer END) AS is_running

-- name: list_distributed_tables
-- List the tables of a schema that are distributed, with the column that each is distributed by.
-- $1 text schema
SELECT relation.relname::text AS relation,
    column_to_column_name(partition.logicalrelid, partition.partkey) AS distribution_column
FROM pg_dist_partition AS partition
JOIN pg_class AS relation ON relation.oid = partition.logicalrelid
WHERE partition.partmethod = 'h'
    AND relation.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = $1::text)
ORDER BY relation.relname COLLATE "C"

-- name: permit_owner_on_workers
-- Permit the owner of the log to log in to the workers, where Citus refreshes the statistics as
-- this role; on the coordinator it stays without a login. Return the workers that refused, each
-- with its reason.
-- $1 text role
SELECT answer.nodename AS host, answer.nodeport AS port, answer.result
FROM run_command_on_workers(format($command$DO $$ BEGIN
    SET LOCAL citus.enable_alter_role_propagation = off;
    ALTER ROLE %I LOGIN;
END $$$command$, $1::text)) AS answer
WHERE NOT answer.success

-- name: propagate_changes
-- Have Citus repeat changes of the schema on the workers until this transaction ends, or not; return
-- whether it did before (null without Citus: plain PostgreSQL does not mind the setting).
-- $1 text on or off
WITH before AS MATERIALIZED (
    SELECT current_setting('citus.enable_ddl_propagation', true) AS setting
)
SELECT before.setting, set_config('citus.enable_ddl_propagation', $1::text, true) AS present
FROM before

-- name: read_local_group
-- Return the group of this node in the cluster: 0 is the coordinator.
SELECT groupid AS group_id
FROM pg_dist_local_group

-- name: read_log_owner
-- Return the owner of the log, and whether the owner may log in.
SELECT role.rolname::text AS name, role.rolcanlogin AS may_log_in
FROM pg_class AS relation
JOIN pg_roles AS role ON role.oid = relation.relowner
WHERE relation.oid = to_regclass('event_log')

-- name: run_sequentially
-- Change the shards of tables one after another until this transaction ends, which Citus demands of
-- a transaction that changes functions, too.
SELECT set_config('citus.multi_shard_modify_mode', 'sequential', true)
