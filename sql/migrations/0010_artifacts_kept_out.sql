-- An append whose artifact a trigger (BEFORE INSERT, returning NULL) or a rule (DO INSTEAD NOTHING) of
-- another program keeps out fails; before, it was acknowledged without its artifact. The function is
-- that of migration 0009 otherwise.
-- Each statement stands below a line that begins with "-- statement:"; they run one by one in one
-- transaction.

-- statement: append events to the ends of flows; returns what was stored, match it by key
CREATE OR REPLACE FUNCTION append_events(
    -- the events, a flow's own ones side by side and in order; a flow's events are stored all or
    -- none: objects of what the chain hashes (event_id, flow_id, metadata, payload, ts, version),
    -- its chain_hash, and where its flow ended before this batch: first_version, the version to
    -- begin with, and previous_hash, the chain_hash of the event before that one
    events text,
    -- the artifacts (null: there are none), in hash order so that batches which share some cannot
    -- deadlock: objects with the flow_id and version of the event that each came with, and whether
    -- its content_is_payload; in the same order their payloads and contents, or null
    artifacts text, artifact_payloads text[], artifact_contents bytea[],
    -- steps (or null) that become pending again, whose failure is in their row already: objects
    retries text,
    -- changes of step rows (or null): objects; attempts are added, null leaves a column as it was
    steps text,
    -- how long to wait for another writer's lock at most, such as '1s'; null leaves it to the
    -- session's own setting
    patience text
) RETURNS TABLE (stored_flow_id uuid, stored_version integer,
    stored_seq bigint) LANGUAGE plpgsql AS $$
DECLARE
    with_more boolean := artifacts IS NOT NULL OR retries IS NOT NULL OR steps IS NOT NULL;
    stored_events bigint := 0;
    stored_artifacts bigint;
    stored_flow_ids uuid[] := '{}';
    sequence oid := 'event_log_seq_seq'::regclass;
BEGIN
    -- on a session that a pooler shares, whose search path does not end with pg_temp
    IF pg_my_temp_schema() <> 0 AND EXISTS (SELECT 1
            FROM (VALUES ('event_log'), ('event_log_seq_seq'), ('workflow_step_artifacts'),
                ('workflow_step_executions')) AS named (name)
            JOIN pg_class AS relation ON relation.oid = to_regclass(named.name)
            WHERE relation.relnamespace = pg_my_temp_schema()) THEN
        RAISE EXCEPTION 'a temporary table hides a table of the log'
            USING ERRCODE = 'object_not_in_prerequisite_state',
                HINT = 'ALTER ROLE ... SET search_path = ..., pg_temp';
    END IF;
    IF patience IS NOT NULL AND (current_setting('lock_timeout') = '0'
            OR patience::interval < current_setting('lock_timeout')::interval) THEN
        PERFORM set_config('lock_timeout', patience, true);
    END IF;
    -- who reads the feed has to know of a seq that is taken and not yet committed: it is beyond the
    -- number that is locked here once a transaction
    IF coalesce(current_setting('chem_persistence.feed_lock', true), '') <> sequence::text THEN
        PERFORM pg_advisory_xact_lock_shared(
            sequence::integer,
            (coalesce(pg_sequence_last_value(sequence), 0) & 2147483647)::integer);
        PERFORM set_config('chem_persistence.feed_lock', sequence::text, true);
    END IF;
    -- a flow that is not where its writer believes is left out: its next version is taken, or the
    -- one before is missing or another's; the scalar subqueries make the plan look each up in the
    -- key, however few rows the planner expects
    FOR stored_flow_id, stored_version, stored_seq IN
        INSERT INTO event_log AS log (flow_id, version, event_id, ts, event_type, payload,
            metadata, chain_hash)
        SELECT e.flow_id, e.version, e.event_id, e.ts, e.payload ->> 'type', e.payload,
            e.metadata, e.chain_hash
        FROM ROWS FROM (json_to_recordset(events::json) AS (flow_id uuid, version integer,
            event_id uuid, ts timestamptz,
                payload jsonb, metadata jsonb, chain_hash bytea, first_version integer,
                    previous_hash bytea))
            WITH ORDINALITY AS e
            (flow_id, version, event_id, ts, payload, metadata, chain_hash, first_version,
                previous_hash, place)
        WHERE (SELECT count(*) FROM event_log AS taken
                WHERE taken.flow_id = e.flow_id AND taken.version = e.first_version) = 0
            AND (e.first_version = 0 OR (SELECT previous.chain_hash FROM event_log AS previous
                WHERE previous.flow_id = e.flow_id
                    AND previous.version = e.first_version - 1) = e.previous_hash)
        ORDER BY e.place
        RETURNING log.flow_id, log.version, log.seq
    LOOP
        RETURN NEXT;
        stored_events := stored_events + 1;
        IF with_more THEN
            stored_flow_ids := array_append(stored_flow_ids, stored_flow_id);
        END IF;
    END LOOP;

    -- fewer events than the document has, which are apart by line breaks: is one missing after its
    -- predecessor?
    IF stored_events <= octet_length(events) - octet_length(replace(events, E'\n', ''))
        AND EXISTS (SELECT 1
            FROM json_to_recordset(events::json) AS e
                (flow_id uuid, version integer, previous_hash bytea)
            LEFT JOIN json_to_recordset(events::json) AS own (flow_id uuid, version integer,
                chain_hash bytea)
                ON own.flow_id = e.flow_id AND own.version = e.version - 1
            WHERE NOT EXISTS (SELECT 1 FROM event_log AS log WHERE log.flow_id = e.flow_id
                AND log.version = e.version)
                AND (e.version = 0 OR EXISTS (SELECT 1 FROM event_log AS previous
                    WHERE previous.flow_id = e.flow_id AND previous.version = e.version - 1
                        AND previous.chain_hash = coalesce(own.chain_hash, e.previous_hash)))) THEN
        RAISE EXCEPTION 'a trigger of event_log keeps events from being stored'
            USING ERRCODE = 'triggered_action_exception',
                HINT = 'chem-persistence doctor names the triggers of others.';
    END IF;

    IF artifacts IS NOT NULL THEN  -- one that is already stored stays as it is
        INSERT INTO workflow_step_artifacts
            (artifact_hash, kind, payload, content, content_is_payload, media_type, metadata,
                flow_id, produced_in_seq)
        SELECT a.artifact_hash, a.kind, artifact_payloads[a.place]::jsonb,
            artifact_contents[a.place], coalesce(a.content_is_payload, false), a.media_type,
            a.metadata, a.flow_id,
            (SELECT stored.seq FROM event_log AS stored WHERE stored.flow_id = a.flow_id
                AND stored.version = a.version)
        FROM ROWS FROM (json_to_recordset(artifacts::json) AS (artifact_hash text, kind text,
            media_type text,
                metadata jsonb, flow_id uuid, version integer, content_is_payload boolean))
            WITH ORDINALITY AS a (artifact_hash, kind, media_type, metadata, flow_id, version,
                content_is_payload, place)
        WHERE a.flow_id IN (SELECT unnest(stored_flow_ids))
        ORDER BY a.place
        ON CONFLICT DO NOTHING;
        GET DIAGNOSTICS stored_artifacts = ROW_COUNT;
        -- fewer than the document has: is one missing, now that those stored already were skipped?
        IF stored_artifacts < cardinality(artifact_payloads)
            AND EXISTS (SELECT 1
                FROM json_to_recordset(artifacts::json) AS a (artifact_hash text, flow_id uuid)
                WHERE a.flow_id IN (SELECT unnest(stored_flow_ids))
                    AND (SELECT count(*) FROM workflow_step_artifacts AS stored
                        WHERE stored.artifact_hash = a.artifact_hash) = 0) THEN
            RAISE EXCEPTION
                'a trigger or rule of workflow_step_artifacts keeps artifacts from being stored'
                USING ERRCODE = 'triggered_action_exception',
                    HINT = 'chem-persistence doctor names the triggers and rules of others.';
        END IF;
    END IF;

    IF retries IS NOT NULL THEN
        UPDATE workflow_step_executions AS step
        SET status = 'pending', retry_count = retry.retry_count
        FROM json_to_recordset(retries::json) AS retry (flow_id uuid, step_id text,
            retry_count bigint)
        WHERE step.flow_id = retry.flow_id AND step.step_id = retry.step_id
            AND retry.flow_id IN (SELECT unnest(stored_flow_ids));
    END IF;

    IF steps IS NOT NULL THEN
        INSERT INTO workflow_step_executions AS step
            (flow_id, step_index, step_id, status, attempts, retry_count, fingerprint, started_at,
                finished_at, error)
        SELECT c.flow_id, c.step_index, c.step_id, c.status, c.attempts, coalesce(c.retry_count, 0),
            c.fingerprint, c.started_at, c.finished_at, c.error
        FROM json_to_recordset(steps::json) AS c (flow_id uuid, step_index bigint, step_id text,
            status text,
            attempts integer, retry_count bigint, fingerprint text, started_at timestamptz,
                finished_at timestamptz, error jsonb)
        WHERE c.flow_id IN (SELECT unnest(stored_flow_ids))
        ON CONFLICT (flow_id, step_index) DO UPDATE SET
            status = excluded.status,
            attempts = step.attempts + excluded.attempts,
            retry_count = greatest(step.retry_count, excluded.retry_count),
            fingerprint = coalesce(excluded.fingerprint, step.fingerprint),
            started_at = coalesce(excluded.started_at, step.started_at),
            finished_at = coalesce(excluded.finished_at, step.finished_at),
            error = coalesce(excluded.error, step.error);
    END IF;
END
$$
