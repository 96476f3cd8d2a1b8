-- Read an artifact.
-- $1 text artifact_hash
SELECT payload, content FROM workflow_step_artifacts WHERE artifact_hash = $1
