-- Read one page of a flow, undecoded.
-- $1 uuid flow_id, $2 integer version after which the page begins, $3 bigint rows at most
SELECT seq, flow_id, version, event_id, ts, event_type, payload, metadata, chain_hash
FROM event_log
WHERE flow_id = $1 AND version > $2
ORDER BY version
LIMIT $3
