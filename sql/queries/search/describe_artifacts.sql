-- Describe artifacts without reading their bodies; where artifacts are stored per flow, any copy of each.
-- $1 text[] artifact_hash
SELECT DISTINCT ON (artifact.artifact_hash) artifact.artifact_hash AS hash, artifact.kind, artifact.media_type,
    coalesce(artifact.content_size, octet_length(artifact.content)) AS content_bytes,
    convert_to(artifact.metadata::text, 'UTF8') AS metadata,
    artifact.flow_id, event.version, event.ts
FROM workflow_step_artifacts AS artifact
LEFT JOIN event_log AS event ON event.flow_id = artifact.flow_id AND event.seq = artifact.produced_in_seq
WHERE artifact.artifact_hash = ANY ($1::text[])
ORDER BY artifact.artifact_hash
