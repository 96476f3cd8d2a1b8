-- Read one artifact; where artifacts are stored per flow, any of its copies.
-- $1 text artifact_hash
SELECT artifact_hash, kind, payload, content, media_type, metadata, upload_id, content_size
FROM workflow_step_artifacts
WHERE artifact_hash = $1
LIMIT 1
