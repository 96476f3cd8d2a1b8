-- Read what `verify` checks: chained events, artifacts, snapshots.

-- name: count_archived
-- Count the flows that were archived, and are not in the log.
SELECT count(DISTINCT gone.flow_id) AS flows
FROM archived_flows AS gone
LEFT JOIN event_log AS event ON event.flow_id = gone.flow_id AND event.version = 0
WHERE event.flow_id IS NULL

-- name: count_artifacts
-- Count the artifacts to verify.
SELECT count(*) AS artifacts
FROM workflow_step_artifacts

-- name: count_events
-- Count the events to verify.
-- $1 uuid[] flow_id, or null for all flows
SELECT count(*) AS events
FROM event_log
WHERE $1::uuid[] IS NULL OR flow_id = ANY ($1::uuid[])

-- name: find_archived_heads
-- Return which of some flows were archived and are not in the log, each with the number of events
-- that it had.
-- $1 uuid[] flow_id
SELECT gone.flow_id, max(gone.version) AS version
FROM archived_flows AS gone
LEFT JOIN event_log AS event ON event.flow_id = gone.flow_id AND event.version = 0
WHERE gone.flow_id = ANY ($1::uuid[]) AND event.flow_id IS NULL
GROUP BY gone.flow_id

-- name: find_missing_artifacts
-- Return which of some hashes no artifact has.
-- $1 text[] artifact_hash
SELECT wanted.artifact_hash
FROM unnest($1::text[]) AS wanted (artifact_hash)
EXCEPT
SELECT stored.artifact_hash
FROM workflow_step_artifacts AS stored
WHERE stored.artifact_hash = ANY ($1::text[])

-- name: read_artifact_producers
-- Read one page of all artifacts, by hash and flow, each with the event that it was stored with;
-- one whose body and metadata have more stored bytes than a limit comes without them. On Citus an
-- artifact has a row in each flow that produced it.
-- $1 text artifact_hash and $2 uuid flow_id after which the page begins, $3 bigint maximum number
-- of rows, $4 bigint maximum stored bytes of one artifact
SELECT artifact.artifact_hash, artifact.kind,
    CASE WHEN coalesce(pg_column_size(artifact.payload), octet_length(artifact.content), 0)
        + coalesce(pg_column_size(artifact.metadata), 0) <= $4::bigint THEN artifact.payload END AS payload,
    CASE WHEN coalesce(pg_column_size(artifact.payload), octet_length(artifact.content), 0)
        + coalesce(pg_column_size(artifact.metadata), 0) <= $4::bigint THEN artifact.content END AS content,
    artifact.content_is_payload, artifact.media_type,
    CASE WHEN coalesce(pg_column_size(artifact.payload), octet_length(artifact.content), 0)
        + coalesce(pg_column_size(artifact.metadata), 0) <= $4::bigint
        THEN artifact.metadata END AS metadata,
    artifact.upload_id, artifact.content_size,
    coalesce(pg_column_size(artifact.payload), octet_length(artifact.content), 0)
        + coalesce(pg_column_size(artifact.metadata), 0) <= $4::bigint AS is_whole,
    artifact.flow_id, coalesce(event.version, -1) AS version
FROM workflow_step_artifacts AS artifact
LEFT JOIN event_log AS event
    ON event.flow_id = artifact.flow_id AND event.seq = artifact.produced_in_seq
WHERE (artifact.artifact_hash, artifact.flow_id) > ($1, $2)
ORDER BY artifact.artifact_hash, artifact.flow_id
LIMIT $3

-- name: read_artifact_row
-- Read one row of an artifact; a body of more bytes than a limit is left out, as by `read_artifact`.
-- $1 text artifact_hash, $2 uuid flow_id, $3 integer maximum bytes of the body
SELECT artifact_hash, kind,
    CASE WHEN coalesce(4 * pg_column_size(payload)::bigint, octet_length(content), 0) <= $3::integer
        THEN payload END AS payload,
    CASE WHEN coalesce(4 * pg_column_size(payload)::bigint, octet_length(content), 0) <= $3::integer
        THEN content END AS content,
    content_is_payload, media_type, metadata, upload_id, content_size, flow_id,
    payload IS NOT NULL AS has_payload, content IS NOT NULL AS has_content,
    coalesce(4 * pg_column_size(payload)::bigint, octet_length(content), 0) > $3::integer AS is_apart
FROM workflow_step_artifacts
WHERE artifact_hash = $1 AND flow_id = $2

-- name: read_chained_events
-- Read one page of all flows' events, flow by flow, each in order; a time outside datetime's range
-- is null, and JSON is returned as UTF-8 bytes.
-- A row with more bytes of JSON than one row may have comes without it, so that the page is bounded
-- in bytes; left_out is then its bytes of JSON, or 2^31 - 1 if the stored form alone shows that
-- there are too many. It is null for a row that comes whole.
-- $1 uuid flow_id, $2 integer version and $3 bigint seq after which the page begins, $4 bigint
-- maximum number of rows, $5 bigint maximum bytes of JSON of one row
SELECT flow_id, version, seq, event_id, ts, event_type,
    CASE WHEN octet_length(payload) + octet_length(metadata) <= $5::bigint
        THEN payload END AS payload,
    CASE WHEN octet_length(payload) + octet_length(metadata) <= $5::bigint
        THEN metadata END AS metadata,
    chain_hash,
    nullif(greatest(coalesce(octet_length(payload) + octet_length(metadata), 2147483647),
        $5::bigint), $5::bigint) AS left_out
FROM (
    SELECT flow_id, version, seq, event_id,
        CASE WHEN ts BETWEEN '0001-01-01 00:00:00+00' AND '9999-12-31 23:59:59.999999+00'
            THEN ts END AS ts,
        event_type,
        CASE WHEN pg_column_size(payload) + pg_column_size(metadata) <= 16 * $5::bigint
            THEN convert_to(payload::text, 'UTF8') END AS payload,
        CASE WHEN pg_column_size(payload) + pg_column_size(metadata) <= 16 * $5::bigint
            THEN convert_to(metadata::text, 'UTF8') END AS metadata,
        chain_hash
    FROM event_log
    WHERE (flow_id, version, seq) > ($1::uuid, $2::integer, $3::bigint)
    ORDER BY flow_id, version, seq
    LIMIT $4
) AS page
ORDER BY flow_id, version, seq

-- name: read_chained_flow
-- Read one page of a flow's events, in order; a time outside datetime's range is null, and JSON is
-- returned as UTF-8 bytes.
-- A row with more bytes of JSON than one row may have comes without it, so that the page is bounded
-- in bytes; left_out is then its bytes of JSON, or 2^31 - 1 if the stored form alone shows that
-- there are too many. It is null for a row that comes whole.
-- $1 uuid flow_id, $2 integer version and $3 bigint seq after which the page begins, $4 bigint
-- maximum number of rows, $5 bigint maximum bytes of JSON of one row
SELECT flow_id, version, seq, event_id, ts, event_type,
    CASE WHEN octet_length(payload) + octet_length(metadata) <= $5::bigint
        THEN payload END AS payload,
    CASE WHEN octet_length(payload) + octet_length(metadata) <= $5::bigint
        THEN metadata END AS metadata,
    chain_hash,
    nullif(greatest(coalesce(octet_length(payload) + octet_length(metadata), 2147483647),
        $5::bigint), $5::bigint) AS left_out
FROM (
    SELECT flow_id, version, seq, event_id,
        CASE WHEN ts BETWEEN '0001-01-01 00:00:00+00' AND '9999-12-31 23:59:59.999999+00'
            THEN ts END AS ts,
        event_type,
        CASE WHEN pg_column_size(payload) + pg_column_size(metadata) <= 16 * $5::bigint
            THEN convert_to(payload::text, 'UTF8') END AS payload,
        CASE WHEN pg_column_size(payload) + pg_column_size(metadata) <= 16 * $5::bigint
            THEN convert_to(metadata::text, 'UTF8') END AS metadata,
        chain_hash
    FROM event_log
    WHERE flow_id = $1::uuid AND (version, seq) > ($2::integer, $3::bigint)
    ORDER BY version, seq
    LIMIT $4
) AS page
ORDER BY version, seq

-- name: read_snapshots
-- Read one page of the snapshots that a load would use, by flow: those of a format that fit the
-- log.
-- $1 uuid flow_id after which the page begins, $2 integer format, $3 uuid[] flow_id, or null for
-- all flows, $4 bigint maximum number of rows
SELECT snapshot.flow_id, snapshot.version, snapshot.definition_hash, snapshot.format,
    snapshot.state, snapshot.state_hash
FROM flow_snapshots AS snapshot
WHERE snapshot.flow_id > $1 AND snapshot.format = $2
    AND ($3::uuid[] IS NULL OR snapshot.flow_id = ANY ($3::uuid[]))
    AND snapshot.chain_hash = (SELECT event.chain_hash FROM event_log AS event
        WHERE event.flow_id = snapshot.flow_id AND event.version = snapshot.version - 1)
ORDER BY snapshot.flow_id
LIMIT $4
