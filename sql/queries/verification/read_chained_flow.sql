-- Read one page of one flow's events, in order; a time that no datetime can hold is null.
-- $1 uuid flow_id, $2 integer version and $3 bigint seq after which the page begins, $4 bigint rows at most
SELECT flow_id, version, seq, event_id,
    CASE WHEN ts BETWEEN '0001-01-01 00:00:00+00' AND '9999-12-31 23:59:59.999999+00' THEN ts END AS ts,
    event_type, payload, metadata, chain_hash
FROM event_log
WHERE flow_id = $1::uuid AND (version, seq) > ($2::integer, $3::bigint)
ORDER BY version, seq
LIMIT $4
