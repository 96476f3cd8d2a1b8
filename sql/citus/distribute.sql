-- Distribute the log over the workers of a Citus cluster, by flow: what `chem-persistence distribute`
-- runs first, as the tables' owner, on the coordinator, in one transaction. What is distributed
-- already is left alone.
--
-- An artifact that several flows share is then stored once for each of them, since a key must
-- contain the column that its table is distributed by; it is read by its hash as before. The store
-- detects that the log is distributed, and appends to one flow per transaction. The workers, the
-- slots of limited resources, with who waits for them, and the positions and parked flows of durable
-- consumers stay on the coordinator: they are few, and belong to no flow. The uses of artifacts are
-- not stored, since each flow has rows of its own.

-- Plain PostgreSQL knows none of these settings and accepts them. Citus accepts triggers only with the
-- first, and tables and functions in one transaction only over one connection to each worker.
SET LOCAL citus.enable_unsafe_triggers = on;
SET LOCAL citus.multi_shard_modify_mode = 'sequential';

DO $$
BEGIN
    ALTER TABLE workflow_step_artifact_uses
        DROP CONSTRAINT IF EXISTS workflow_step_artifact_uses_artifact_fkey;
    IF NOT EXISTS (SELECT 1 FROM pg_constraint
            WHERE conrelid = 'workflow_step_artifacts'::regclass AND contype = 'p'
                AND pg_get_constraintdef(oid) = 'PRIMARY KEY (flow_id, artifact_hash)') THEN
        ALTER TABLE workflow_step_artifacts
            DROP CONSTRAINT workflow_step_artifacts_pkey,
            ADD CONSTRAINT workflow_step_artifacts_pkey PRIMARY KEY (flow_id, artifact_hash);
    END IF;
    IF to_regclass('workflow_step_artifacts_hash_idx') IS NULL THEN
        CREATE INDEX workflow_step_artifacts_hash_idx ON workflow_step_artifacts (artifact_hash);
    END IF;
END
$$;

DO $$
DECLARE
    wanted record;
BEGIN
    FOR wanted IN
        SELECT to_distribute.relation, to_distribute.distribution_column, to_distribute.colocated
        FROM (VALUES
            (1, 'event_log'::regclass, 'flow_id', 'default'),
            (2, 'workflow_step_artifacts', 'flow_id', 'event_log'),
            (3, 'workflow_step_executions', 'flow_id', 'event_log'),
            (4, 'flow_snapshots', 'flow_id', 'event_log'),
            (5, 'flow_runs', 'flow_id', 'event_log'),
            (6, 'imported_flows', 'flow_id', 'event_log'),
            (7, 'archived_flows', 'flow_id', 'event_log'),
            (8, 'workflow_step_artifact_chunks', 'upload_id', 'default')
        ) AS to_distribute (place, relation, distribution_column, colocated)
        WHERE NOT EXISTS (SELECT 1
            FROM pg_trigger AS trigger
            JOIN pg_proc AS routine ON routine.oid = trigger.tgfoid
            WHERE trigger.tgrelid = to_distribute.relation
                AND routine.proname = 'citus_truncate_trigger')
        ORDER BY to_distribute.place
    LOOP
        PERFORM create_distributed_table(
            wanted.relation, wanted.distribution_column, colocate_with => wanted.colocated);
    END LOOP;
END
$$;
