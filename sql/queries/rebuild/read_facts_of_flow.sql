-- Read what step rows are made of, of one flow, in order, JSON as UTF-8 bytes; a time that no datetime can hold is null.
-- $1 uuid flow_id
SELECT flow_id, version,
    CASE WHEN ts BETWEEN '0001-01-01 00:00:00+00' AND '9999-12-31 23:59:59.999999+00' THEN ts END AS ts,
    event_type, convert_to(payload::text, 'UTF8') AS payload
FROM event_log
WHERE flow_id = $1 AND event_type IN ('stepstarted', 'stepfinished', 'stepfailed', 'retryscheduled',
    'userinteractionrequested', 'userinteractionprovided')
ORDER BY version
