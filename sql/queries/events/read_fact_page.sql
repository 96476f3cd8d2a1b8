-- Read one page of what a replay needs of a flow's events, in order, JSON as UTF-8 bytes; has_time says whether a datetime
-- can hold the time. The time itself, which costs a client more than the rest of a row, comes of those events alone whose
-- time a state shows.
-- The scalar subqueries hide the parameters from the planner, and between two bounds it expects few rows (no version is
-- above 2147483647), so that it keeps one plan; it would make one at each call where that one looks cheaper than any.
-- $1 uuid flow_id, $2 integer version after which the page begins, $3 bigint rows at most
SELECT version,
    ts BETWEEN '0001-01-01 00:00:00+00' AND '9999-12-31 23:59:59.999999+00' AS has_time,
    CASE WHEN event_type IN ('stepstarted', 'stepfinished')
        AND ts BETWEEN '0001-01-01 00:00:00+00' AND '9999-12-31 23:59:59.999999+00' THEN ts END AS ts,
    event_type, convert_to(payload::text, 'UTF8') AS payload
FROM event_log
WHERE flow_id = $1 AND version > (SELECT $2::integer) AND version <= 2147483647
ORDER BY version
LIMIT (SELECT $3::bigint)
