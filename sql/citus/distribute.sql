-- Distribute the log over the workers of a Citus cluster, by flow. Run this once, as the tables'
-- owner, on the coordinator, after the migrations and before the first event:
--
--     psql "$DATABASE_URL" --single-transaction --set ON_ERROR_STOP=1 --file sql/citus/distribute.sql
--
-- An artifact that several flows share is then stored once for each of them, since a key must
-- contain the column that its table is distributed by; it is read by its hash as before. The store
-- detects that the log is distributed, and appends to one flow per transaction.

ALTER TABLE workflow_step_artifacts
    DROP CONSTRAINT workflow_step_artifacts_pkey,
    ADD CONSTRAINT workflow_step_artifacts_pkey PRIMARY KEY (flow_id, artifact_hash);
CREATE INDEX workflow_step_artifacts_hash_idx ON workflow_step_artifacts (artifact_hash);

SET LOCAL citus.enable_unsafe_triggers = on;
SELECT create_distributed_table('event_log', 'flow_id');
SELECT create_distributed_table('workflow_step_artifacts', 'flow_id', colocate_with => 'event_log');
SELECT create_distributed_table('workflow_step_executions', 'flow_id', colocate_with => 'event_log');
SELECT create_distributed_table('flow_snapshots', 'flow_id', colocate_with => 'event_log');
SELECT create_distributed_table('workflow_step_artifact_chunks', 'upload_id');
