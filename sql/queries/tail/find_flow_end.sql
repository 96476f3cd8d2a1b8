-- Give how many events a flow has.
-- $1 uuid flow_id
SELECT coalesce(max(version) + 1, 0) AS version
FROM event_log
WHERE flow_id = $1
