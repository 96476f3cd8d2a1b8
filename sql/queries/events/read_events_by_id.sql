-- Read those of some flows' events that have one of the ids, looking at every event of these flows; a time that no
-- datetime can hold is null.
-- $1 uuid[] flow_id, $2 uuid[] event_id
SELECT seq, flow_id, version, event_id,
    CASE WHEN ts BETWEEN '0001-01-01 00:00:00+00' AND '9999-12-31 23:59:59.999999+00' THEN ts END AS ts,
    event_type, payload, metadata, chain_hash
FROM event_log
WHERE flow_id = ANY ($1::uuid[]) AND event_id = ANY ($2::uuid[])
ORDER BY flow_id, version
