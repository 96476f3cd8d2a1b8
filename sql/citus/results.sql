-- Results found again on a distributed log: the function of migration 0016 with a query for each
-- fingerprint, since Citus runs no lateral query that has a limit. The invalidation of a result is an
-- event of the same flow, and so on the same shard.

CREATE OR REPLACE FUNCTION find_results(fingerprints text[], most integer)
RETURNS TABLE (found_fingerprint text, found_flow_id uuid, found_version integer,
    found_outputs jsonb) LANGUAGE plpgsql STABLE AS $$
BEGIN
    FOREACH found_fingerprint IN ARRAY fingerprints
    LOOP
        FOR found_flow_id, found_version, found_outputs IN
            SELECT event.flow_id, event.version, event.payload -> 'outputs'
            FROM event_log AS event
            WHERE event.event_type = 'stepfinished'
                AND hashtextextended(event.payload ->> 'fingerprint', 0)
                    = hashtextextended(found_fingerprint, 0)
                AND event.payload ->> 'fingerprint' = found_fingerprint
                AND NOT event.payload ? 'reused_from'
                AND NOT EXISTS (SELECT 1 FROM event_log AS said
                    WHERE said.flow_id = event.flow_id AND said.version > event.version
                        AND said.event_type = 'stepsignal'
                        AND said.payload ->> 'signal' = 'chem_persistence.invalidated'
                        AND said.payload -> 'step_index' = event.payload -> 'step_index')
            ORDER BY event.seq
            LIMIT most
        LOOP
            RETURN NEXT;
        END LOOP;
    END LOOP;
END
$$;
