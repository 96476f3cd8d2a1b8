-- Read those of a flow's events that have one of the ids; this looks at every event of the flow.
-- $1 uuid flow_id, $2 uuid[] event_id
SELECT seq, flow_id, version, event_id, ts, event_type, payload, metadata, chain_hash
FROM event_log
WHERE flow_id = $1 AND event_id = ANY ($2::uuid[])
ORDER BY version
