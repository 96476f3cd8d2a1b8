-- Artifacts: whole, and in the chunks that an upload left.

-- name: read_artifact
-- Read one artifact; where artifacts are stored per flow, any of its copies.
-- $1 text artifact_hash
SELECT artifact_hash, kind, payload, content, media_type, metadata, upload_id, content_size
FROM workflow_step_artifacts
WHERE artifact_hash = $1
LIMIT 1

-- name: read_chunks
-- Read one page of an artifact's chunks, in order.
-- $1 uuid upload_id, $2 integer chunk_no to begin with, $3 bigint rows at most
SELECT chunk_no, content
FROM workflow_step_artifact_chunks
WHERE upload_id = $1 AND chunk_no >= $2
ORDER BY chunk_no
LIMIT $3
