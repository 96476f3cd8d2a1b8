-- Give each of some steps of a flow a row, if it has none, so that it can be locked; waits for an append that brings one.
-- $1 uuid flow_id, $2 bigint[] step_index, $3 text[] step_id
INSERT INTO workflow_step_executions (flow_id, step_index, step_id, status, attempts, retry_count)
SELECT $1, missing.step_index, missing.step_id, 'pending', 0, 0
FROM unnest($2::bigint[], $3::text[]) AS missing (step_index, step_id)
ORDER BY missing.step_index
ON CONFLICT DO NOTHING
