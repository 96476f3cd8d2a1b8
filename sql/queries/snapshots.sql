-- Store and read snapshots of flow states.

-- name: keep_snapshot
-- Store a snapshot as the only one of its flow, with the chain hash of the last event that it
-- covers.
-- $1 uuid flow_id, $2 integer version (the number of events it covers), $3 text definition_hash,
-- $4 integer format, $5 bytea state, $6 bytea state_hash, $7 timestamptz created_at
INSERT INTO flow_snapshots AS snapshot
    (flow_id, version, chain_hash, definition_hash, format, state, state_hash, created_at)
SELECT event.flow_id, event.version + 1, event.chain_hash, $3, $4, $5, $6, $7
FROM event_log AS event
WHERE event.flow_id = $1 AND event.version = $2 - 1
ON CONFLICT (flow_id) DO UPDATE SET
    version = excluded.version,
    chain_hash = excluded.chain_hash,
    definition_hash = excluded.definition_hash,
    format = excluded.format,
    state = excluded.state,
    state_hash = excluded.state_hash,
    created_at = excluded.created_at

-- name: read_snapshot
-- Read a flow's snapshot, if it has this definition and format, and fits the log: the last event
-- that it covers is stored, with the same chain hash.
-- $1 uuid flow_id, $2 text definition_hash, $3 integer format
SELECT snapshot.flow_id, snapshot.version, snapshot.definition_hash, snapshot.format,
    snapshot.state, snapshot.state_hash, snapshot.chain_hash
FROM flow_snapshots AS snapshot
WHERE snapshot.flow_id = $1 AND snapshot.definition_hash = $2 AND snapshot.format = $3
    AND snapshot.chain_hash = (SELECT event.chain_hash FROM event_log AS event
        WHERE event.flow_id = snapshot.flow_id AND event.version = snapshot.version - 1)
