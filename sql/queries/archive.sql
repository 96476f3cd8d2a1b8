-- Archive sealed flows.

-- name: archive_flows
-- Archive sealed flows, all or none; return the number of each in the register.
-- $1 uuid[] flow_id, $2 integer[] number of events of each, $3 bytea[] chain_hash of the last one of
-- each, which is its seal, $4 text SHA-256 of the bundle that has them, $5 text actor
SELECT archived_flow_id AS flow_id, archived_no AS archive_no
FROM archive_flows($1::uuid[], $2::integer[], $3::bytea[], $4, $5)
