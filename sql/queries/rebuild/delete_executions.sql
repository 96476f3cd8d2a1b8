-- Delete step rows of a flow that no event of it speaks of.
-- $1 uuid flow_id, $2 bigint[] step_index
DELETE FROM workflow_step_executions
WHERE flow_id = $1 AND step_index = ANY ($2::bigint[])
