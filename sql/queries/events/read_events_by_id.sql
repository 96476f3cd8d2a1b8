-- Read those of some flows' events that have one of the ids; this looks at every event of these flows.
-- $1 uuid[] flow_id, $2 uuid[] event_id
SELECT seq, flow_id, version, event_id, ts, event_type, payload, metadata, chain_hash
FROM event_log
WHERE flow_id = ANY ($1::uuid[]) AND event_id = ANY ($2::uuid[])
ORDER BY flow_id, version
