-- Write the step rows of the same flows.
-- $1 bigint first flow, $2 bigint last flow
INSERT INTO workflow_step_executions (flow_id, step_index, step_id, status, attempts, retry_count,
    fingerprint, started_at, finished_at, error)
SELECT flow.flow_id, step.step_index, step.step_id, step.status, step.attempts, step.retry_count,
    filled(step.fingerprint, flow.number, NULL, NULL),
    flow.started_at + step.started * interval '700 ms',
    flow.started_at + step.finished * interval '700 ms',
    filled(step.error, flow.number, NULL, NULL)::jsonb
FROM grown_flow AS flow
JOIN grown_step AS step ON step.shape = flow.shape
WHERE flow.number BETWEEN $1 AND $2
ORDER BY flow.number, step.step_index
