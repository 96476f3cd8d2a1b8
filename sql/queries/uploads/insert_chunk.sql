-- Write a chunk of a content that is being uploaded.
-- $1 uuid upload_id, $2 integer chunk_no, $3 bytea content
INSERT INTO workflow_step_artifact_chunks (upload_id, chunk_no, content)
VALUES ($1, $2, $3)
