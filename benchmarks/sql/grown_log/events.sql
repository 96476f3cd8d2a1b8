-- Append whole flows with valid chains.
-- $1 bigint first flow, $2 bigint last flow
INSERT INTO event_log (flow_id, version, event_id, ts, event_type, payload, metadata, chain_hash)
SELECT flow_id, version, event_id, ts, event_type, payload::jsonb, '{}',
    chain(format('{"event_id":"%s","flow_id":"%s","metadata":{},"payload":%s,"ts":"%s","version":%s}',
        event_id, flow_id, payload,
        to_char(ts AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), version))
        OVER (PARTITION BY number ORDER BY version)
FROM (
    SELECT flow.number, flow.flow_id, event.version,
        grown_event_id(flow.number, event.version) AS event_id,
        flow.started_at + event.version * interval '700 ms' AS ts, event.event_type,
        filled(event.payload, flow.number, flow.parent, flow.item) AS payload
    FROM grown_flow AS flow
    JOIN grown_event AS event ON event.shape = flow.shape
    WHERE flow.number BETWEEN $1 AND $2
) AS event
