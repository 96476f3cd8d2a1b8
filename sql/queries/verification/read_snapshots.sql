-- Read one page of the snapshots that a load would look at, by flow: of this format, and of the history that the flow has.
-- $1 uuid flow_id after which the page begins, $2 integer format, $3 uuid[] flow_id, or null for those of all flows,
-- $4 bigint rows at most
SELECT snapshot.flow_id, snapshot.version, snapshot.definition_hash, snapshot.format, snapshot.state, snapshot.state_hash
FROM flow_snapshots AS snapshot
WHERE snapshot.flow_id > $1 AND snapshot.format = $2 AND ($3::uuid[] IS NULL OR snapshot.flow_id = ANY ($3::uuid[]))
    AND snapshot.chain_hash = (SELECT event.chain_hash FROM event_log AS event
        WHERE event.flow_id = snapshot.flow_id AND event.version = snapshot.version - 1)
ORDER BY snapshot.flow_id
LIMIT $4
