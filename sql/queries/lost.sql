-- Compare what subscribers, writers and anchors know with what the log has.

-- name: find_events_at
-- Return the ids of the events at some versions of flows, in the order asked for; null where there
-- is no event.
-- $1 uuid[] flow_id, $2 integer[] version
SELECT pg_is_in_recovery() AS is_standby, (SELECT event.event_id FROM event_log AS event
    WHERE event.flow_id = asked.flow_id AND event.version = asked.version) AS event_id
FROM unnest($1::uuid[], $2::integer[]) WITH ORDINALITY AS asked (flow_id, version, place)
ORDER BY asked.place

-- name: find_heads_at
-- Return the number of events that some flows have, and their chain hashes after the numbers asked
-- for (null: a flow has fewer), in the order asked for.
-- $1 uuid[] flow_id, $2 integer[] number of events
SELECT pg_is_in_recovery() AS is_standby,
    coalesce((SELECT max(event.version) + 1 FROM event_log AS event
        WHERE event.flow_id = asked.flow_id), 0) AS version,
    (SELECT event.chain_hash FROM event_log AS event
        WHERE event.flow_id = asked.flow_id AND event.version = asked.version - 1) AS chain_hash
FROM unnest($1::uuid[], $2::integer[]) WITH ORDINALITY AS asked (flow_id, version, place)
ORDER BY asked.place
