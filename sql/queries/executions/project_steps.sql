-- Bring step rows up to date: attempts are added, null leaves a column as it was.
-- $1 uuid[] flow_id, $2 bigint[] step_index, $3 text[] step_id, $4 text[] status, $5 integer[] attempts,
-- $6 bigint[] retry_count, $7 text[] fingerprint, $8 timestamptz[] started_at, $9 timestamptz[] finished_at,
-- $10 jsonb[] error
INSERT INTO workflow_step_executions AS step
    (flow_id, step_index, step_id, status, attempts, retry_count, fingerprint, started_at, finished_at, error)
SELECT c.flow_id, c.step_index, c.step_id, c.status, c.attempts, coalesce(c.retry_count, 0),
    c.fingerprint, c.started_at, c.finished_at, c.error
FROM unnest($1::uuid[], $2::bigint[], $3::text[], $4::text[], $5::integer[], $6::bigint[], $7::text[],
    $8::timestamptz[], $9::timestamptz[], $10::jsonb[])
    AS c (flow_id, step_index, step_id, status, attempts, retry_count, fingerprint, started_at, finished_at, error)
ON CONFLICT (flow_id, step_index) DO UPDATE SET
    status = excluded.status,
    attempts = step.attempts + excluded.attempts,
    retry_count = greatest(step.retry_count, excluded.retry_count),
    fingerprint = coalesce(excluded.fingerprint, step.fingerprint),
    started_at = coalesce(excluded.started_at, step.started_at),
    finished_at = coalesce(excluded.finished_at, step.finished_at),
    error = coalesce(excluded.error, step.error)
