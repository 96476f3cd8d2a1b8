-- Write step rows of a flow as a whole, in place of what is there.
-- $1 uuid flow_id; of each row: $2 bigint[] step_index, $3 text[] step_id, $4 text[] status, $5 integer[] attempts,
-- $6 bigint[] retry_count, $7 text[] fingerprint, $8 timestamptz[] started_at, $9 timestamptz[] finished_at, $10 text[] error
UPDATE workflow_step_executions AS step
SET step_id = rebuilt.step_id, status = rebuilt.status, attempts = rebuilt.attempts, retry_count = rebuilt.retry_count,
    fingerprint = rebuilt.fingerprint, started_at = rebuilt.started_at, finished_at = rebuilt.finished_at,
    error = rebuilt.error::jsonb
FROM unnest($2::bigint[], $3::text[], $4::text[], $5::integer[], $6::bigint[], $7::text[], $8::timestamptz[],
        $9::timestamptz[], $10::text[]) AS rebuilt
    (step_index, step_id, status, attempts, retry_count, fingerprint, started_at, finished_at, error)
WHERE step.flow_id = $1 AND step.step_index = rebuilt.step_index
