-- List one page of the failures of a flow's steps, the newest first; a time that no datetime can hold is null.
-- $1 bigint seq before which the page begins, or null for the newest; $2 bigint rows at most, $3 uuid flow_id
SELECT flow_id, version, seq, step_index, step_id, attempt,
    CASE WHEN failed_at BETWEEN '0001-01-01 00:00:00+00' AND '9999-12-31 23:59:59.999999+00' THEN failed_at END AS failed_at,
    fingerprint, error
FROM step_execution_errors
WHERE flow_id = $3 AND seq < coalesce($1::bigint, 9223372036854775807)
ORDER BY seq DESC
LIMIT $2
