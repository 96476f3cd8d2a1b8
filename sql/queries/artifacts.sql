-- Read artifacts: those of a flow, whole ones, and the chunks of an upload; and add uses of them.

-- name: find_kept_artifacts
-- Read for each of some artifacts the flow that stored it first and, if that was archived and is not
-- in the log again, the bundle that it was archived in last; a time outside datetime's range is null.
-- $1 text[] artifact_hash
SELECT DISTINCT ON (artifact.artifact_hash) artifact.artifact_hash, artifact.flow_id,
    CASE WHEN beginning.flow_id IS NULL THEN gone.bundle_sha256 END AS bundle_sha256,
    CASE WHEN gone.archived_at BETWEEN '0001-01-01 00:00:00+00' AND '9999-12-31 23:59:59.999999+00'
        THEN gone.archived_at END AS archived_at
FROM workflow_step_artifacts AS artifact
LEFT JOIN archived_flows AS gone ON gone.flow_id = artifact.flow_id
LEFT JOIN event_log AS beginning
    ON beginning.flow_id = artifact.flow_id AND beginning.version = 0
WHERE artifact.artifact_hash = ANY ($1::text[])
ORDER BY artifact.artifact_hash, artifact.produced_in_seq, gone.archive_no DESC

-- name: find_stored_artifacts
-- Return which of some artifacts are stored, and with which flows: on Citus each flow has a row of
-- its own.
-- $1 text[] artifact_hash
SELECT artifact_hash, flow_id
FROM workflow_step_artifacts
WHERE artifact_hash = ANY ($1::text[])

-- name: list_flow_artifacts
-- List the artifacts that were stored with the events of a flow, in the order of these; a time
-- outside datetime's range is null. Of several outputs the first with this hash counts.
-- $1 uuid flow_id
SELECT artifact.artifact_hash, event.flow_id, event.version, event.seq, event.event_type,
    (event.payload ->> 'step_index')::bigint AS step_index, event.payload ->> 'step_id' AS step_id,
    (SELECT min(output.place) - 1
        FROM jsonb_array_elements_text(event.payload -> 'outputs')
            WITH ORDINALITY AS output (hash, place)
        WHERE output.hash = artifact.artifact_hash) AS output,
    CASE WHEN event.ts BETWEEN '0001-01-01 00:00:00+00' AND '9999-12-31 23:59:59.999999+00'
        THEN event.ts END AS ts
FROM workflow_step_artifacts AS artifact
JOIN event_log AS event
    ON event.flow_id = artifact.flow_id AND event.seq = artifact.produced_in_seq
WHERE artifact.flow_id = $1
ORDER BY event.version, artifact.artifact_hash

-- name: list_kept_artifacts
-- List the artifacts that a flow had stored when it was archived, and that stayed: no event has the
-- number of theirs.
-- $1 uuid flow_id
SELECT own.artifact_hash
FROM workflow_step_artifacts AS own
WHERE own.flow_id = $1 AND (SELECT count(*) FROM event_log AS event
    WHERE event.flow_id = $1 AND event.seq = own.produced_in_seq) = 0

-- name: list_used_artifacts
-- List the artifacts that a flow uses and that other flows had stored before.
-- $1 uuid flow_id
SELECT used.artifact_hash
FROM workflow_step_artifact_uses AS used
WHERE used.flow_id = $1

-- name: read_artifact
-- Read one artifact; on Citus, where each flow has a row of its own, the one that was stored first.
-- A body of more bytes than a limit is left out: `read_body` returns it. That of JSONB is known from
-- its stored form, which has about a quarter of the bytes that it is written with.
-- $1 text artifact_hash, $2 integer maximum bytes of the body
SELECT artifact_hash, kind,
    CASE WHEN coalesce(4 * pg_column_size(payload)::bigint, octet_length(content), 0) <= $2::integer
        THEN payload END AS payload,
    CASE WHEN coalesce(4 * pg_column_size(payload)::bigint, octet_length(content), 0) <= $2::integer
        THEN content END AS content,
    content_is_payload, media_type, metadata, upload_id, content_size, flow_id,
    payload IS NOT NULL AS has_payload, content IS NOT NULL AS has_content,
    coalesce(4 * pg_column_size(payload)::bigint, octet_length(content), 0) > $2::integer AS is_apart
FROM workflow_step_artifacts
WHERE artifact_hash = $1
ORDER BY produced_in_seq
LIMIT 1

-- name: read_artifacts
-- Read artifacts; one that is larger than a limit comes with its size instead of its body and
-- metadata. On Citus, where each flow has a row of its own, it is the one that was stored first.
-- OFFSET 0 keeps the planner from repeating the conversion to text for each column that uses it.
-- $1 text[] artifact_hash, $2 bigint maximum bytes of one artifact
SELECT artifact.artifact_hash, artifact.kind,
    CASE WHEN written.size <= $2 THEN written.payload END AS payload,
    CASE WHEN written.size <= $2 THEN artifact.content END AS content,
    artifact.content_is_payload, artifact.media_type,
    CASE WHEN written.size <= $2 THEN written.metadata END AS metadata,
    artifact.upload_id, artifact.content_size, written.size
FROM (
    SELECT DISTINCT ON (copy.artifact_hash) copy.artifact_hash, copy.kind, copy.payload,
        copy.content, copy.content_is_payload, copy.media_type, copy.metadata, copy.upload_id,
        copy.content_size
    FROM workflow_step_artifacts AS copy
    WHERE copy.artifact_hash = ANY ($1::text[])
    ORDER BY copy.artifact_hash, copy.produced_in_seq
) AS artifact
CROSS JOIN LATERAL (
    SELECT json.payload, json.metadata,
        coalesce(octet_length(artifact.content), 0)::bigint
            + coalesce(octet_length(json.payload), 0)
            + coalesce(octet_length(json.metadata), 0) AS size
    FROM (SELECT convert_to(artifact.payload::text, 'UTF8') AS payload,
        convert_to(artifact.metadata::text, 'UTF8') AS metadata OFFSET 0) AS json
) AS written

-- name: read_body
-- Read the body of an artifact in pieces, which have numbers from 0 on; JSONB as UTF-8 text. It is
-- decompressed once: OFFSET 0 keeps the planner from repeating that for each piece.
-- $1 text artifact_hash, $2 uuid flow_id, $3 integer bytes of a piece
SELECT piece.number,
    substring(artifact.body FROM piece.number * $3::integer + 1 FOR $3::integer) AS content
FROM (
    SELECT coalesce(content, convert_to(payload::text, 'UTF8')) || ''::bytea AS body
    FROM workflow_step_artifacts
    WHERE artifact_hash = $1 AND flow_id = $2
    OFFSET 0
) AS artifact
CROSS JOIN LATERAL generate_series(0, (octet_length(artifact.body) - 1) / $3::integer)
    AS piece (number)

-- name: read_chunks
-- Read one page of an artifact's chunks, in order.
-- $1 uuid upload_id, $2 integer first chunk_no, $3 bigint maximum number of rows
SELECT chunk_no, content
FROM workflow_step_artifact_chunks
WHERE upload_id = $1 AND chunk_no >= $2
ORDER BY chunk_no
LIMIT $3

-- name: read_named_artifacts
-- Return the hashes of the artifacts that the events of flows name: the input of each and the outputs
-- of its steps.
-- $1 uuid[] flow_id
SELECT DISTINCT event.flow_id, output.hash
FROM event_log AS event
CROSS JOIN LATERAL jsonb_array_elements_text(CASE event.event_type
    WHEN 'stepfinished' THEN event.payload -> 'outputs'
    ELSE jsonb_build_array(event.payload -> 'input') END) AS output (hash)
WHERE event.flow_id = ANY ($1::uuid[])
    AND event.event_type IN ('stepfinished', 'flowinitialized') AND output.hash IS NOT NULL

-- name: use_artifacts
-- Record that flows use artifacts, pair by pair, except those that a flow has stored itself.
-- $1 uuid[] flow_id, $2 text[] artifact_hash
SELECT use_artifacts($1::uuid[], $2::text[])
