-- Say what is there of an upload: how many chunks, and whether it is an artifact's.
-- $1 uuid upload_id, $2 text artifact_hash
SELECT
    (SELECT count(*) FROM workflow_step_artifact_chunks WHERE upload_id = $1) AS chunks,
    (SELECT count(*) FROM workflow_step_artifacts WHERE artifact_hash = $2 AND upload_id = $1) AS artifacts
