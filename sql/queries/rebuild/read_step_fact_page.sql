-- Read one page of what step rows are made of, of all flows, flow by flow, each in order, JSON as UTF-8 bytes; a time that
-- no datetime can hold is null. Events that change no step row come without their payload.
-- $1 uuid flow_id and $2 integer version after which the page begins, $3 bigint rows at most
SELECT flow_id, version,
    CASE WHEN ts BETWEEN '0001-01-01 00:00:00+00' AND '9999-12-31 23:59:59.999999+00' THEN ts END AS ts,
    event_type,
    CASE WHEN event_type IN ('stepstarted', 'stepfinished', 'stepfailed', 'retryscheduled', 'userinteractionrequested',
        'userinteractionprovided') THEN convert_to(payload::text, 'UTF8') END AS payload
FROM event_log
WHERE (flow_id, version) > ($1::uuid, $2::integer)
ORDER BY flow_id, version
LIMIT $3
