-- Read one page of one flow's events, in order.
-- $1 uuid flow_id, $2 integer version and $3 bigint seq after which the page begins, $4 bigint rows at most
SELECT flow_id, version, seq, event_id, ts, event_type, payload, metadata, chain_hash
FROM event_log
WHERE flow_id = $1::uuid AND (version, seq) > ($2::integer, $3::bigint)
ORDER BY version, seq
LIMIT $4
