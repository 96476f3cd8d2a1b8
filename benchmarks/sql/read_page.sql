-- Read one page of a flow, undecoded. The scalar subqueries and the second bound keep one plan, as
-- those in the library's own statement do. Without them a log without statistics is sorted for each
-- page, which would not be a floor.
-- $1 uuid flow_id, $2 integer version after which the page begins, $3 bigint rows at most
SELECT seq, flow_id, version, event_id, ts, event_type, payload, metadata, chain_hash
FROM event_log
WHERE flow_id = $1 AND version > (SELECT $2::integer) AND version <= 2147483647
ORDER BY version
LIMIT (SELECT $3::bigint)
