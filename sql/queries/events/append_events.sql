-- Append events to the ends of one or more flows, with their artifacts and step rows: see the function in migration 0002.
-- Gives (flow_id, version, seq), to be matched by key; none for a flow that is not where its writer believes.
-- $1 to $10 the events, $11 to $18 the artifacts, $19 to $21 the retries, $22 to $31 the step changes,
-- $32 text how long to wait for a lock, or null
SELECT stored_flow_id AS flow_id, stored_version AS version, stored_seq AS seq
FROM append_events($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21,
    $22, $23, $24, $25, $26, $27, $28, $29, $30, $31, $32)
