-- Read one page of the events after a place in the log, in order, JSON as UTF-8 bytes; a time that no datetime can hold is
-- null.
-- $1 bigint seq after which the page begins, $2 bigint rows at most
SELECT seq, flow_id, version, event_id,
    CASE WHEN ts BETWEEN '0001-01-01 00:00:00+00' AND '9999-12-31 23:59:59.999999+00' THEN ts END AS ts,
    event_type, convert_to(payload::text, 'UTF8') AS payload, convert_to(metadata::text, 'UTF8') AS metadata, chain_hash
FROM event_log
WHERE seq > $1
ORDER BY seq
LIMIT $2
