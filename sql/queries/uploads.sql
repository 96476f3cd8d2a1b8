-- Store artifacts that are uploaded in chunks.

-- name: end_with_client
-- End this transaction soon after its client is gone without a word, for as long as the transaction
-- waits for data: until then it keeps its locks. The settings mean nothing to a Unix socket.
SELECT set_config('tcp_keepalives_idle', '10', true),
    set_config('tcp_keepalives_interval', '5', true), set_config('tcp_keepalives_count', '3', true)

-- name: insert_artifact_of_flow
-- On Citus, where each flow has a row of its own for an artifact: add the one of a flow that brings a
-- content which another flow has stored; both have the same body, or the same chunks.
-- $1 text artifact_hash, $2 text kind, $3 text media_type, $4 text metadata, $5 uuid flow_id and
-- $6 bigint seq of the event that it is stored with
INSERT INTO workflow_step_artifacts
    (artifact_hash, kind, payload, content, content_is_payload, media_type, metadata, flow_id,
        produced_in_seq, upload_id, content_size)
SELECT stored.artifact_hash, $2::text, stored.payload, stored.content, stored.content_is_payload,
    $3::text, $4::text::jsonb, $5::uuid, $6::bigint, stored.upload_id, stored.content_size
FROM workflow_step_artifacts AS stored
WHERE stored.artifact_hash = $1
ORDER BY stored.produced_in_seq
LIMIT 1
ON CONFLICT DO NOTHING

-- name: insert_chunk
-- Store a chunk of a content that is being uploaded.
-- $1 uuid upload_id, $2 integer chunk_no, $3 bytea content
INSERT INTO workflow_step_artifact_chunks (upload_id, chunk_no, content)
VALUES ($1, $2, $3)

-- name: insert_uploaded_artifact
-- Store the artifact of an upload, unless its hash is stored already; return the hash if it was
-- stored.
-- $1 text artifact_hash, $2 text kind, $3 text media_type, $4 text metadata, $5 uuid flow_id and
-- $6 bigint seq of the event that it is stored with, $7 uuid upload_id, $8 bigint content_size
INSERT INTO workflow_step_artifacts
    (artifact_hash, kind, media_type, metadata, flow_id, produced_in_seq, upload_id, content_size)
VALUES ($1, $2, $3, $4::text::jsonb, $5, $6, $7, $8)
ON CONFLICT DO NOTHING
RETURNING artifact_hash

-- name: lock_artifact
-- Lock a content until this transaction ends; wait for another transaction that uploads the same
-- one.
-- $1 text artifact_hash
SELECT pg_advisory_xact_lock(hashtextextended('chem_persistence artifact ' || current_schema()
    || ' ' || $1::text, 0))

-- name: read_upload
-- Return how many chunks of an upload are stored, and whether it belongs to an artifact.
-- $1 uuid upload_id, $2 text artifact_hash
SELECT
    (SELECT count(*) FROM workflow_step_artifact_chunks WHERE upload_id = $1) AS chunks,
    (SELECT count(*) FROM workflow_step_artifacts
        WHERE artifact_hash = $2 AND upload_id = $1) AS artifacts
