-- Append one event to a table like the log.
-- $1 uuid flow_id, $2 integer version, $3 uuid event_id, $4 timestamptz ts, $5 text event_type,
-- $6 jsonb payload, $7 jsonb metadata, $8 bytea chain_hash
INSERT INTO own_log (flow_id, version, event_id, ts, event_type, payload, metadata, chain_hash)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
RETURNING seq
