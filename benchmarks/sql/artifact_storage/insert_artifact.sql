-- Insert an artifact as the store does, which sends JSON as text.
-- $1 text artifact_hash, $2 text payload or null, $3 bytea content or null
INSERT INTO workflow_step_artifacts (artifact_hash, kind, payload, content, media_type, metadata, flow_id, produced_in_seq)
VALUES ($1, 'measured', $2::text::jsonb, $3, 'application/octet-stream', '{}', '6f0e7d54-3c0b-5b8e-9d0c-5d1f2f7c8a41', 1)
