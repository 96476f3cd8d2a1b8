-- Store artifacts in the order given (by hash, so that batches which share some cannot deadlock); those already
-- stored stay as they are.
-- $1 text[] artifact_hash, $2 text[] kind, $3 jsonb[] payload or null, $4 bytea[] content or null, $5 text[] media_type,
-- $6 jsonb[] metadata, $7 uuid[] flow_id, $8 bigint[] produced_in_seq
INSERT INTO workflow_step_artifacts
    (artifact_hash, kind, payload, content, media_type, metadata, flow_id, produced_in_seq)
SELECT a.artifact_hash, a.kind, a.payload, a.content, a.media_type, a.metadata, a.flow_id, a.produced_in_seq
FROM unnest($1::text[], $2::text[], $3::jsonb[], $4::bytea[], $5::text[], $6::jsonb[], $7::uuid[], $8::bigint[])
    WITH ORDINALITY
    AS a (artifact_hash, kind, payload, content, media_type, metadata, flow_id, produced_in_seq, place)
ORDER BY a.place
ON CONFLICT DO NOTHING
