-- Read a flow's snapshot, if it is of this definition and format, and of the history that the flow has: the last event
-- that it has seen is there, with the link that it had.
-- $1 uuid flow_id, $2 text definition_hash, $3 integer format
SELECT snapshot.flow_id, snapshot.version, snapshot.definition_hash, snapshot.format, snapshot.state, snapshot.state_hash
FROM flow_snapshots AS snapshot
WHERE snapshot.flow_id = $1 AND snapshot.definition_hash = $2 AND snapshot.format = $3
    AND snapshot.chain_hash = (SELECT event.chain_hash FROM event_log AS event
        WHERE event.flow_id = snapshot.flow_id AND event.version = snapshot.version - 1)
