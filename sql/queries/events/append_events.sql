-- Append events to the ends of one or more flows, with their artifacts and step rows: the function of migration 0005,
-- where the documents are described. Gives (flow_id, version, seq), to be matched by key; none for a flow that is not where its
-- writer believes.
-- $1 text events
-- $2 text artifacts, $3 text[] their payloads, $4 bytea[] their contents; all null when there are none
-- $5 text retries, or null
-- $6 text changes of step rows, or null
-- $7 text how long to wait for another writer's lock at most, or null
SELECT stored_flow_id AS flow_id, stored_version AS version, stored_seq AS seq
FROM append_events($1, $2, $3, $4, $5, $6, $7)
