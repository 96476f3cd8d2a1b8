-- Read step rows, and the errors of failed attempts.

-- name: list_errors
-- List one page of the failures of all steps, the newest first; a time outside datetime's range is
-- null.
-- $1 bigint seq before which the page begins, or null for the newest; $2 bigint maximum number of
-- rows
SELECT flow_id, version, seq, step_index, step_id, attempt,
    CASE WHEN failed_at BETWEEN '0001-01-01 00:00:00+00' AND '9999-12-31 23:59:59.999999+00'
        THEN failed_at END AS failed_at,
    fingerprint, error
FROM step_execution_errors
WHERE seq < coalesce($1::bigint, 9223372036854775807)
ORDER BY seq DESC
LIMIT $2

-- name: list_errors_of_flow
-- List one page of the failures of a flow's steps, the newest first; a time outside datetime's
-- range is null.
-- $1 bigint seq before which the page begins, or null for the newest; $2 bigint maximum number of
-- rows, $3 uuid flow_id
SELECT flow_id, version, seq, step_index, step_id, attempt,
    CASE WHEN failed_at BETWEEN '0001-01-01 00:00:00+00' AND '9999-12-31 23:59:59.999999+00'
        THEN failed_at END AS failed_at,
    fingerprint, error
FROM step_execution_errors
WHERE flow_id = $3 AND seq < coalesce($1::bigint, 9223372036854775807)
ORDER BY seq DESC
LIMIT $2

-- name: read_executions
-- Read a flow's step rows, in order.
-- $1 uuid flow_id
SELECT step_index, step_id, status, attempts, retry_count, fingerprint, started_at,
    finished_at, error
FROM workflow_step_executions
WHERE flow_id = $1
ORDER BY step_index
