-- Read the artifacts that the screening made.
SELECT kind, payload, content FROM workflow_step_artifacts ORDER BY artifact_hash
