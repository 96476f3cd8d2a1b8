-- Read a flow's step rows, in order.
-- $1 uuid flow_id
SELECT step_index, step_id, status, attempts, retry_count, fingerprint, started_at, finished_at, error
FROM workflow_step_executions
WHERE flow_id = $1
ORDER BY step_index
