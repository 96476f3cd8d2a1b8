-- Read the step rows of all flows from one to another.
-- $1 uuid flow_id after which they begin, $2 uuid flow_id of the last
SELECT flow_id, step_index, step_id, status, attempts, retry_count, fingerprint, started_at, finished_at, error
FROM workflow_step_executions
WHERE flow_id > $1 AND flow_id <= $2
ORDER BY flow_id, step_index
