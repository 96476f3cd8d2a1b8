-- Read where flows end, or where they ended when they had so many events; chain_hash is null where a flow does not
-- reach there. The scalar subqueries make the plan look each up in the key.
-- $1 uuid[] flow_id, $2 integer[] how many events, or null for the end as it is
SELECT ends.flow_id, ends.version, (SELECT last.chain_hash FROM event_log AS last
    WHERE last.flow_id = ends.flow_id AND last.version = ends.version - 1) AS chain_hash
FROM (
    SELECT asked.flow_id, coalesce(asked.version, (SELECT max(event.version) + 1 FROM event_log AS event
        WHERE event.flow_id = asked.flow_id), 0) AS version
    FROM unnest($1::uuid[], $2::integer[]) AS asked (flow_id, version)
) AS ends
