-- Read one page of all artifacts, by hash, with the event that each came with.
-- $1 text artifact_hash after which the page begins, $2 bigint rows at most
SELECT artifact.artifact_hash, artifact.kind, artifact.payload, artifact.content, artifact.media_type, artifact.metadata,
    artifact.upload_id, artifact.content_size, artifact.flow_id, coalesce(event.version, -1) AS version
FROM workflow_step_artifacts AS artifact
LEFT JOIN event_log AS event ON event.flow_id = artifact.flow_id AND event.seq = artifact.produced_in_seq
WHERE artifact.artifact_hash > $1
ORDER BY artifact.artifact_hash
LIMIT $2
