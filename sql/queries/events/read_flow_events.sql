-- Read one page of a flow's events, in order; a time that no datetime can hold is null. It keeps one plan as
-- read_event_page does.
-- $1 uuid flow_id, $2 integer version after which the page begins, $3 bigint rows at most
SELECT seq, flow_id, version, event_id,
    CASE WHEN ts BETWEEN '0001-01-01 00:00:00+00' AND '9999-12-31 23:59:59.999999+00' THEN ts END AS ts,
    event_type, payload, metadata, chain_hash
FROM event_log
WHERE flow_id = $1 AND version > (SELECT $2::integer) AND version <= 2147483647
ORDER BY version
LIMIT (SELECT $3::bigint)
