-- Read a flow's step rows and lock them, so that appends that change them wait, and their changes come on top.
-- $1 uuid flow_id
SELECT step_index, step_id, status, attempts, retry_count, fingerprint, started_at, finished_at, error
FROM workflow_step_executions
WHERE flow_id = $1
ORDER BY step_index
FOR UPDATE
