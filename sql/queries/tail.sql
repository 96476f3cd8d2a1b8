-- Read the end of the log and of a flow.

-- name: find_flow_end
-- Return the number of a flow's events.
-- $1 uuid flow_id
SELECT coalesce(max(version) + 1, 0) AS version
FROM event_log
WHERE flow_id = $1

-- name: read_flow_tail
-- Read one page of a flow's events, in order, from a version on; JSON is returned as UTF-8 bytes,
-- and a time outside datetime's range as null. If the event before that version was read, it comes
-- first, without its JSON.
-- A row with more bytes of JSON than one row may have comes without it, so that the page is bounded
-- in bytes; left_out is then its bytes of JSON, or 2^31 - 1 if the stored form alone shows that
-- there are too many. It is null for a row that comes whole.
-- $1 uuid flow_id, $2 integer version of the first event, $3 bytea chain_hash of the event before
-- it, or null if it was not read, $4 bigint maximum number of rows, $5 bigint maximum bytes of
-- JSON of one row
SELECT seq, flow_id, version, event_id, ts, event_type,
    CASE WHEN octet_length(payload) + octet_length(metadata) <= $5::bigint
        THEN payload END AS payload,
    CASE WHEN octet_length(payload) + octet_length(metadata) <= $5::bigint
        THEN metadata END AS metadata,
    chain_hash,
    nullif(greatest(coalesce(octet_length(payload) + octet_length(metadata), 2147483647),
        $5::bigint), $5::bigint) AS left_out
FROM (
    SELECT seq, flow_id, version, event_id,
        CASE WHEN ts BETWEEN '0001-01-01 00:00:00+00' AND '9999-12-31 23:59:59.999999+00'
            THEN ts END AS ts,
        event_type,
        CASE WHEN version < $2::integer THEN ''::bytea
            WHEN pg_column_size(payload) + pg_column_size(metadata) <= 16 * $5::bigint
            THEN convert_to(payload::text, 'UTF8') END AS payload,
        CASE WHEN version < $2::integer THEN ''::bytea
            WHEN pg_column_size(payload) + pg_column_size(metadata) <= 16 * $5::bigint
            THEN convert_to(metadata::text, 'UTF8') END AS metadata,
        chain_hash
    FROM event_log
    WHERE flow_id = $1
        AND version >= CASE WHEN $3::bytea IS NULL THEN $2::integer ELSE $2::integer - 1 END
    ORDER BY version
    LIMIT $4
) AS page
ORDER BY version

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
