-- Store the artifact of an upload, unless one with its hash is stored; gives its hash if it was not.
-- $1 text artifact_hash, $2 text kind, $3 text media_type, $4 text metadata, $5 uuid flow_id and $6 bigint seq of the event
-- that it comes with, $7 uuid upload_id, $8 bigint content_size
INSERT INTO workflow_step_artifacts
    (artifact_hash, kind, media_type, metadata, flow_id, produced_in_seq, upload_id, content_size)
VALUES ($1, $2, $3, $4::text::jsonb, $5, $6, $7, $8)
ON CONFLICT DO NOTHING
RETURNING artifact_hash
