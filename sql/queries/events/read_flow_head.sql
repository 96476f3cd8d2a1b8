-- Read where a flow ends, or where it ended when it had so many events; no row: it does not reach there.
-- $1 uuid flow_id, $2 integer how many events, or null for the end as it is
SELECT version + 1 AS version, chain_hash
FROM event_log
WHERE flow_id = $1 AND version = coalesce($2::integer - 1, (SELECT max(version) FROM event_log WHERE flow_id = $1))
