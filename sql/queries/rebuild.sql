-- Rebuild step rows from the log.

-- name: delete_executions
-- Delete step rows of a flow that none of its events names.
-- $1 uuid flow_id, $2 bigint[] step_index
DELETE FROM workflow_step_executions
WHERE flow_id = $1 AND step_index = ANY ($2::bigint[])

-- name: insert_missing_executions
-- Insert a row for each of some steps of a flow that has none, so that it can be locked; an append
-- that inserts the same row is waited for.
-- $1 uuid flow_id, $2 bigint[] step_index, $3 text[] step_id
INSERT INTO workflow_step_executions (flow_id, step_index, step_id, status, attempts, retry_count)
SELECT $1, missing.step_index, missing.step_id, 'pending', 0, 0
FROM unnest($2::bigint[], $3::text[]) AS missing (step_index, step_id)
ORDER BY missing.step_index
ON CONFLICT DO NOTHING

-- name: lock_executions
-- Read and lock a flow's step rows, so that appends that change them wait, and change the rebuilt
-- rows.
-- $1 uuid flow_id
SELECT step_index, step_id, status, attempts, retry_count, fingerprint, started_at,
    finished_at, error
FROM workflow_step_executions
WHERE flow_id = $1
ORDER BY step_index
FOR UPDATE

-- name: read_executions_of_flows
-- Read the step rows of the flows in a range of ids.
-- $1 uuid flow_id after which the range begins, $2 uuid last flow_id
SELECT flow_id, step_index, step_id, status, attempts, retry_count, fingerprint, started_at,
    finished_at, error
FROM workflow_step_executions
WHERE flow_id > $1 AND flow_id <= $2
ORDER BY flow_id, step_index

-- name: read_facts_of_flow
-- Read the parts of a flow's events that step rows are computed from, in order; JSON is returned as
-- UTF-8 bytes, and a time outside datetime's range as null.
-- $1 uuid flow_id
SELECT flow_id, version,
    CASE WHEN ts BETWEEN '0001-01-01 00:00:00+00' AND '9999-12-31 23:59:59.999999+00'
        THEN ts END AS ts,
    event_type, convert_to(payload::text, 'UTF8') AS payload
FROM event_log
WHERE flow_id = $1 AND event_type IN ('stepstarted', 'stepfinished', 'stepfailed', 'retryscheduled',
    'userinteractionrequested', 'userinteractionprovided', 'stepwaits')
ORDER BY version

-- name: read_step_fact_page
-- Read one page of the parts of all events that step rows are computed from, flow by flow, each in
-- order; JSON is returned as UTF-8 bytes, and a time outside datetime's range as null. Events that
-- change no step row are returned without their payload.
-- $1 uuid flow_id and $2 integer version after which the page begins, $3 bigint maximum number of
-- rows
SELECT flow_id, version,
    CASE WHEN ts BETWEEN '0001-01-01 00:00:00+00' AND '9999-12-31 23:59:59.999999+00'
        THEN ts END AS ts,
    event_type,
    CASE WHEN event_type IN ('stepstarted', 'stepfinished', 'stepfailed', 'retryscheduled',
            'userinteractionrequested', 'userinteractionprovided', 'stepwaits')
        THEN convert_to(payload::text, 'UTF8') END AS payload
FROM event_log
WHERE (flow_id, version) > ($1::uuid, $2::integer)
ORDER BY flow_id, version
LIMIT $3

-- name: write_executions
-- Replace step rows of a flow.
-- $1 uuid flow_id; of each row: $2 bigint[] step_index, $3 text[] step_id, $4 text[] status,
-- $5 integer[] attempts, $6 bigint[] retry_count, $7 text[] fingerprint,
-- $8 timestamptz[] started_at, $9 timestamptz[] finished_at, $10 text[] error
UPDATE workflow_step_executions AS step
SET step_id = rebuilt.step_id, status = rebuilt.status, attempts = rebuilt.attempts,
    retry_count = rebuilt.retry_count,
    fingerprint = rebuilt.fingerprint, started_at = rebuilt.started_at,
    finished_at = rebuilt.finished_at,
    error = rebuilt.error::jsonb
FROM unnest($2::bigint[], $3::text[], $4::text[], $5::integer[], $6::bigint[], $7::text[],
    $8::timestamptz[],
        $9::timestamptz[], $10::text[]) AS rebuilt
    (step_index, step_id, status, attempts, retry_count, fingerprint, started_at,
        finished_at, error)
WHERE step.flow_id = $1 AND step.step_index = rebuilt.step_index
