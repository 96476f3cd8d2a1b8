-- Append events to the ends of one or more flows, with their artifacts and step rows: the function of migration 0002.
-- Gives (flow_id, version, seq), to be matched by key; none for a flow that is not where its writer believes.
-- The events: $1 uuid[] flow_id, $2 integer[] version, $3 uuid[] event_id, $4 timestamptz[] ts, $5 text[] event_type,
-- $6 text[] payload, $7 text[] metadata, $8 bytea[] chain_hash, $9 integer[] version of the flow's first event in this
-- batch, $10 bytea[] chain_hash of the event before that one
-- The artifacts: $11 text[] artifact_hash, $12 text[] kind, $13 text[] payload or null, $14 bytea[] content or null,
-- $15 text[] media_type, $16 text[] metadata, $17 uuid[] flow_id, $18 integer[] version of the event that it came with
-- The retries: $19 uuid[] flow_id, $20 text[] step_id, $21 bigint[] retry_count
-- The changes of step rows: $22 uuid[] flow_id, $23 bigint[] step_index, $24 text[] step_id, $25 text[] status,
-- $26 integer[] attempts, $27 bigint[] retry_count, $28 text[] fingerprint, $29 timestamptz[] started_at,
-- $30 timestamptz[] finished_at, $31 text[] error
-- The parameters of a group of which there are none are all null.
-- $32 text how long to wait for another writer's lock at most, or null
SELECT stored_flow_id AS flow_id, stored_version AS version, stored_seq AS seq
FROM append_events($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21,
    $22, $23, $24, $25, $26, $27, $28, $29, $30, $31, $32)
