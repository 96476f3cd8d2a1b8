-- Find flows by a range of their ids.
-- $1 uuid first, $2 uuid last, $3 bigint rows at most
SELECT flow_id
FROM event_log
WHERE version = 0 AND flow_id BETWEEN $1 AND $2
ORDER BY flow_id
LIMIT $3
