-- Lists of flows stay quick when what is asked for is rare in a log of a million flows: the flows of
-- one definition or name, and those that are not over.
-- CREATE INDEX lets nobody append while it reads the log. In a large log they are built beforehand,
-- with CREATE INDEX CONCURRENTLY; what is there already is left alone.
-- Each statement stands below a line that begins with "-- statement:"; they run one by one in one
-- transaction.

-- statement: the flows of a definition in the order of their beginning, those that no other flow
-- runs apart from the others; a number for the hash, because it is an eighth of the bytes for the
-- append to write. An entry a flow, written with its first event
CREATE INDEX IF NOT EXISTS event_log_definition_idx ON event_log (
    hashtextextended(payload ->> 'definition_hash', 0), num_nulls(payload -> 'parent'), ts, flow_id
) WHERE version = 0

-- statement: the flows that neither workers nor a program run, and that have therefore no row in
-- flow_runs; usually none
CREATE INDEX IF NOT EXISTS event_log_raw_idx ON event_log (flow_id)
    WHERE version = 0 AND NOT payload ? 'due' AND NOT metadata ? 'chem_persistence.run_by'

-- statement: the flows with a name in the order of their beginning, by a number as well
CREATE INDEX IF NOT EXISTS event_log_name_idx ON event_log (
    hashtextextended(payload ->> 'name', 0), ts, flow_id
) WHERE version = 0 AND payload ? 'name'
