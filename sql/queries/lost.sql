-- Compare what subscribers, writers and anchors know with what the log has.

-- name: find_events_at
-- Return the ids of the events at some versions of flows, in the order asked for; null where there
-- is no event.
-- $1 uuid[] flow_id, $2 integer[] version
WITH found AS MATERIALIZED (
    SELECT asked.place, event.event_id
    FROM unnest($1::uuid[], $2::integer[]) WITH ORDINALITY AS asked (flow_id, version, place)
    JOIN event_log AS event ON event.flow_id = asked.flow_id AND event.version = asked.version
)
SELECT pg_is_in_recovery() AS is_standby, found.event_id
FROM unnest($1::uuid[]) WITH ORDINALITY AS asked (flow_id, place)
LEFT JOIN found ON found.place = asked.place
ORDER BY asked.place

-- name: find_heads_at
-- Return the number of events that some flows have, and their chain hashes after the numbers asked
-- for (null: a flow has fewer), in the order asked for.
-- $1 uuid[] flow_id, $2 integer[] number of events
WITH ends AS MATERIALIZED (
    SELECT first.flow_id, (SELECT max(event.version) + 1 FROM event_log AS event
        WHERE event.flow_id = first.flow_id) AS version
    FROM event_log AS first
    WHERE first.flow_id = ANY ($1::uuid[]) AND first.version = 0
), damaged AS MATERIALIZED (
    SELECT event.flow_id, max(event.version) + 1 AS version
    FROM event_log AS event
    WHERE event.flow_id = ANY (ARRAY(SELECT unnest($1::uuid[])
        EXCEPT SELECT ends.flow_id FROM ends))
    GROUP BY event.flow_id
), heads AS MATERIALIZED (
    SELECT asked.place, event.chain_hash
    FROM unnest($1::uuid[], $2::integer[]) WITH ORDINALITY AS asked (flow_id, version, place)
    JOIN event_log AS event ON event.flow_id = asked.flow_id AND event.version = asked.version - 1
)
SELECT pg_is_in_recovery() AS is_standby,
    coalesce(ends.version, damaged.version, 0) AS version, heads.chain_hash
FROM unnest($1::uuid[]) WITH ORDINALITY AS asked (flow_id, place)
LEFT JOIN ends ON ends.flow_id = asked.flow_id
LEFT JOIN damaged ON damaged.flow_id = asked.flow_id
LEFT JOIN heads ON heads.place = asked.place
ORDER BY asked.place
