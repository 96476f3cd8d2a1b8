-- Lists of flows stay quick when what is asked for is rare in a log of a million flows: the flows of
-- one definition, and those that are not over.
-- Each statement stands below a line that begins with "-- statement:"; they run one by one in one
-- transaction.

-- statement: the flows of a definition in the order of their beginning, those that no other flow
-- runs apart from the others; a number for the hash, because it is an eighth of the bytes for the
-- append to write. An entry a flow, written with its first event
CREATE INDEX event_log_definition_idx ON event_log (
    hashtextextended(payload ->> 'definition_hash', 0), num_nulls(payload -> 'parent'), ts, flow_id
) WHERE version = 0

-- statement: the flows that neither workers nor a program run, and that have therefore no row in
-- flow_runs; usually none
CREATE INDEX event_log_raw_idx ON event_log (flow_id)
    WHERE version = 0 AND NOT payload ? 'due' AND NOT metadata ? 'chem_persistence.run_by'
