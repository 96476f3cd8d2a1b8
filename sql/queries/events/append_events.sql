-- Append events to the end of one or more flows: all of them, or an error (unique_violation), or no row where a flow
-- does not reach up to the events yet. Gives (flow_id, version, seq), to be matched by key.
-- $1 uuid[] flow_id, $2 integer[] version, $3 uuid[] event_id, $4 timestamptz[] ts, $5 text[] event_type,
-- $6 jsonb[] payload, $7 jsonb[] metadata, $8 bytea[] chain_hash, $9 integer[] version of the flow's first event in this
-- batch, $10 bytea[] chain_hash of the event before that one
INSERT INTO event_log (flow_id, version, event_id, ts, event_type, payload, metadata, chain_hash)
SELECT e.flow_id, e.version, e.event_id, e.ts, e.event_type, e.payload, e.metadata, e.chain_hash
FROM unnest($1::uuid[], $2::integer[], $3::uuid[], $4::timestamptz[], $5::text[], $6::jsonb[], $7::jsonb[], $8::bytea[],
    $9::integer[], $10::bytea[])
    WITH ORDINALITY AS e
    (flow_id, version, event_id, ts, event_type, payload, metadata, chain_hash, first_version, previous_hash, place)
WHERE e.first_version = 0
    OR EXISTS (SELECT 1 FROM event_log AS previous
        WHERE previous.flow_id = e.flow_id AND previous.version = e.first_version - 1
            AND previous.chain_hash = e.previous_hash)
ORDER BY e.place
RETURNING flow_id, version, seq
