-- Results are found again: by the fingerprint of a step that is to run, and by the flow that they
-- come from. The log stays the truth: nothing but indexes and the function that reads them is new.
-- Each statement stands below a line that begins with "-- statement:"; they run one by one in one
-- transaction.

-- statement: the results of a fingerprint; a copy of one is no result
CREATE INDEX event_log_fingerprint_idx
    ON event_log (hashtextextended(payload ->> 'fingerprint', 0))
    WHERE event_type = 'stepfinished' AND NOT payload ? 'reused_from'

-- statement: what became of the results of a flow: that they were invalidated, and in which flows
-- they were taken over
CREATE INDEX event_log_origin_idx
    ON event_log (coalesce(payload #>> '{reused_from,flow_id}', flow_id::text))
    WHERE (event_type = 'stepfinished' AND payload ? 'reused_from')
        OR (event_type = 'stepsignal'
            AND payload ->> 'signal' = 'chem_persistence.invalidated')

-- statement: find the results of steps by fingerprint, the oldest ones first, at most so many of
-- each: those that a step worked out itself, and that were not invalidated. The scalar subquery
-- makes the plan look the invalidations up, however few rows the planner expects, and the sum keeps
-- it from reading all events in the order of seq until so many are found
CREATE FUNCTION find_results(fingerprints text[], most integer)
RETURNS TABLE (found_fingerprint text, found_flow_id uuid, found_version integer,
    found_outputs jsonb) LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN QUERY
    SELECT wanted.fingerprint, origin.flow_id, origin.version, origin.outputs
    FROM unnest(fingerprints) AS wanted (fingerprint)
    CROSS JOIN LATERAL (
        SELECT event.flow_id, event.version, event.payload -> 'outputs' AS outputs
        FROM event_log AS event
        WHERE event.event_type = 'stepfinished'
            AND hashtextextended(event.payload ->> 'fingerprint', 0)
                = hashtextextended(wanted.fingerprint, 0)
            AND event.payload ->> 'fingerprint' = wanted.fingerprint
            AND NOT event.payload ? 'reused_from'
            AND (SELECT count(*) FROM event_log AS said
                WHERE said.event_type = 'stepsignal'
                    AND said.payload ->> 'signal' = 'chem_persistence.invalidated'
                    AND coalesce(said.payload #>> '{reused_from,flow_id}', said.flow_id::text)
                        = event.flow_id::text
                    AND said.flow_id = event.flow_id AND said.version > event.version
                    AND said.payload -> 'step_index' = event.payload -> 'step_index') = 0
        ORDER BY event.seq + 0
        LIMIT most) AS origin;
END
$$

-- statement: the look-up is planned once a session, and its plan outlives the size that the table
-- had, so it may only read the indexes
ALTER FUNCTION find_results(text[], integer) SET plan_cache_mode = 'force_generic_plan'

-- statement: the look-up reads no whole table
ALTER FUNCTION find_results(text[], integer) SET enable_seqscan = off

-- statement: the look-up sorts no results that it then leaves
ALTER FUNCTION find_results(text[], integer) SET enable_bitmapscan = off
