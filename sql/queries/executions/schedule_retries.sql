-- Make steps pending again, whose failure is in their row already.
-- $1 uuid[] flow_id, $2 text[] step_id, $3 bigint[] retry_count
UPDATE workflow_step_executions AS step
SET status = 'pending', retry_count = retry.retry_count
FROM unnest($1::uuid[], $2::text[], $3::bigint[]) AS retry (flow_id, step_id, retry_count)
WHERE step.flow_id = retry.flow_id AND step.step_id = retry.step_id
