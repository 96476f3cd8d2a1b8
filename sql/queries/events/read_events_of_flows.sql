-- Read all events of some flows, flow by flow, each in order, JSON as UTF-8 bytes; a time that no datetime can hold is
-- null.
-- $1 uuid[] flow_id
SELECT flow_id, seq, version, event_id,
    CASE WHEN ts BETWEEN '0001-01-01 00:00:00+00' AND '9999-12-31 23:59:59.999999+00' THEN ts END AS ts,
    event_type, convert_to(payload::text, 'UTF8') AS payload, convert_to(metadata::text, 'UTF8') AS metadata
FROM event_log
WHERE flow_id = ANY ($1::uuid[])
ORDER BY flow_id, version
