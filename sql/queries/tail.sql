-- Read the end of the log and of a flow.

-- name: find_flow_end
-- Return the number of a flow's events.
-- $1 uuid flow_id
SELECT coalesce(max(version) + 1, 0) AS version
FROM event_log
WHERE flow_id = $1

-- name: read_last_events
-- Read the last events of the log, the newest first; JSON is returned as UTF-8 bytes, and a time
-- outside datetime's range as null.
-- $1 bigint maximum number of rows, $2 bigint largest seq, or null
SELECT seq, flow_id, version, event_id,
    CASE WHEN ts BETWEEN '0001-01-01 00:00:00+00' AND '9999-12-31 23:59:59.999999+00'
        THEN ts END AS ts,
    event_type, convert_to(payload::text, 'UTF8') AS payload,
    convert_to(metadata::text, 'UTF8') AS metadata, chain_hash
FROM event_log
WHERE seq <= coalesce($2::bigint, 9223372036854775807)
ORDER BY seq DESC
LIMIT $1
