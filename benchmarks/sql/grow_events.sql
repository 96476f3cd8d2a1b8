-- Append whole flows of ten with valid chains; a flow's events are adjacent in the table, and its
-- id is random in the indexes.
-- $1 bigint first flow, $2 bigint last flow, $3 text[] event types, $4 text[] canonical payloads
INSERT INTO event_log (flow_id, version, event_id, ts, event_type, payload, metadata, chain_hash)
SELECT flow_id, version, event_id, ts, event_type, payload::jsonb, '{}',
    chain(format('{"event_id":"%s","flow_id":"%s","metadata":{},"payload":%s,"ts":"%s","version":%s}',
        event_id, flow_id, payload, to_char(ts AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), version))
        OVER (PARTITION BY flow ORDER BY version)
FROM (
    SELECT flow, md5('flow ' || flow)::uuid AS flow_id, (place - 1)::integer AS version, gen_random_uuid() AS event_id,
        timestamptz '2026-01-01 00:00:00Z' + (flow * 10 + place) * interval '1 millisecond' AS ts, event_type, payload
    FROM generate_series($1::bigint, $2::bigint) AS flow
    CROSS JOIN unnest($3::text[], $4::text[]) WITH ORDINALITY AS kind (event_type, payload, place)
) AS event
