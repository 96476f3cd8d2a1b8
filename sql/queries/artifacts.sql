-- Artifacts: whole, and in the chunks that an upload left.

-- name: read_artifact
-- Read one artifact; where artifacts are stored per flow, any of its copies.
-- $1 text artifact_hash
SELECT artifact_hash, kind, payload, content, media_type, metadata, upload_id, content_size
FROM workflow_step_artifacts
WHERE artifact_hash = $1
LIMIT 1

-- name: read_artifacts
-- Read artifacts; of one with more bytes than a limit, its size in place of its body and metadata; where artifacts are
-- stored per flow, any copy of each.
-- $1 text[] artifact_hash, $2 bigint bytes of one artifact at most
SELECT DISTINCT ON (artifact.artifact_hash) artifact.artifact_hash, artifact.kind,
    CASE WHEN measured.size <= $2 THEN artifact.payload END AS payload,
    CASE WHEN measured.size <= $2 THEN artifact.content END AS content,
    artifact.media_type,
    CASE WHEN measured.size <= $2 THEN artifact.metadata END AS metadata,
    artifact.upload_id, artifact.content_size, measured.size
FROM workflow_step_artifacts AS artifact
CROSS JOIN LATERAL (SELECT coalesce(octet_length(artifact.content), 0)::bigint
    + coalesce(octet_length(artifact.payload::text), 0) + coalesce(octet_length(artifact.metadata::text), 0) AS size
) AS measured
WHERE artifact.artifact_hash = ANY ($1::text[])
ORDER BY artifact.artifact_hash

-- name: read_chunks
-- Read one page of an artifact's chunks, in order.
-- $1 uuid upload_id, $2 integer chunk_no to begin with, $3 bigint rows at most
SELECT chunk_no, content
FROM workflow_step_artifact_chunks
WHERE upload_id = $1 AND chunk_no >= $2
ORDER BY chunk_no
LIMIT $3
