-- The append on a distributed log: the function of migration 0021, which describes the documents and
-- the result, as statements of one row and one flow each, which Citus sends to a single shard. It
-- refuses the INSERT ... SELECT over several tables of the migration's text.

CREATE OR REPLACE FUNCTION append_events(
    events text,
    artifacts text, artifact_payloads text[], artifact_contents bytea[],
    retries text,
    steps text,
    patience text
) RETURNS TABLE (stored_flow_id uuid, stored_version integer, stored_seq bigint) LANGUAGE plpgsql AS $$
DECLARE
    present timestamptz := now();
    -- read here: a statement that is sent to a worker would read the worker's setting
    imports boolean := coalesce(current_setting('chem_persistence.import', true), '') = 'on';
    sequence oid := 'event_log_seq_seq'::regclass;
    stored_flow_ids uuid[] := '{}';
    last_flow_id uuid;
    last_lease uuid;
    fits boolean := false;
    is_sealed boolean := false;
    changed boolean := false;
    produced_in bigint;
    e record;
    written record;
BEGIN
    IF patience IS NOT NULL AND (current_setting('lock_timeout') = '0'
            OR patience::interval < current_setting('lock_timeout')::interval) THEN
        PERFORM set_config('lock_timeout', patience, true);
    END IF;
    -- All numbers are taken here on the coordinator, so its locks are all that a reader of the feed
    -- needs to see.
    IF coalesce(current_setting('chem_persistence.feed_lock', true), '') <> sequence::text THEN
        PERFORM check_seq();
        PERFORM pg_advisory_xact_lock_shared(
            sequence::integer, (coalesce(pg_sequence_last_value(sequence), 0) & 2147483647)::integer);
        PERFORM set_config('chem_persistence.feed_lock', sequence::text, true);
    END IF;
    FOR e IN
        SELECT document.*
        FROM ROWS FROM (json_to_recordset(events::json) AS (flow_id uuid, version integer,
                event_id uuid, ts timestamptz, payload jsonb, metadata jsonb, chain_hash bytea,
                first_version integer, previous_hash bytea, lease uuid, holder uuid,
                seconds double precision, keeps boolean))
            WITH ORDINALITY AS document
            (flow_id, version, event_id, ts, payload, metadata, chain_hash, first_version,
                previous_hash, lease, holder, seconds, keeps, place)
        ORDER BY document.flow_id, document.place
    LOOP
        IF e.flow_id IS DISTINCT FROM last_flow_id THEN  -- once per flow, before its first event
            last_flow_id := e.flow_id;
            last_lease := e.lease;
            fits := NOT EXISTS (SELECT 1 FROM event_log AS taken
                    WHERE taken.flow_id = e.flow_id AND taken.version = e.first_version)
                AND (e.first_version = 0 OR EXISTS (SELECT 1 FROM event_log AS previous
                    WHERE previous.flow_id = e.flow_id AND previous.version = e.first_version - 1
                        AND previous.chain_hash = e.previous_hash
                        AND (previous.event_type <> 'stepsignal'
                            OR previous.payload ->> 'signal' <> 'chem_persistence.sealed')))
                AND (e.first_version > 0
                    OR imports
                    OR NOT EXISTS (SELECT 1 FROM archived_flows AS gone
                        WHERE gone.flow_id = e.flow_id))
                AND (e.lease IS NULL OR (e.holder IS NOT NULL AND e.first_version = 0)
                    OR EXISTS (SELECT 1 FROM flow_runs AS run
                        WHERE run.flow_id = e.flow_id AND run.lease = e.lease));
            is_sealed := false;
            IF fits THEN
                stored_flow_ids := array_append(stored_flow_ids, e.flow_id);
            END IF;
        END IF;
        IF e.lease IS DISTINCT FROM last_lease THEN
            RAISE EXCEPTION 'appends to one flow carry different leases'
                USING ERRCODE = 'invalid_parameter_value';
        END IF;
        IF fits THEN
            IF is_sealed THEN
                RAISE EXCEPTION 'an event follows the seal of its flow'
                    USING ERRCODE = 'invalid_parameter_value';
            END IF;
            is_sealed := e.payload ->> 'type' = 'stepsignal'
                AND e.payload ->> 'signal' = 'chem_persistence.sealed';
            IF is_sealed THEN
                DELETE FROM flow_runs AS run WHERE run.flow_id = e.flow_id;
            END IF;
            INSERT INTO event_log AS log
                (flow_id, version, event_id, ts, event_type, payload, metadata, chain_hash)
            VALUES (e.flow_id, e.version, e.event_id, e.ts, e.payload ->> 'type', e.payload, e.metadata,
                e.chain_hash)
            RETURNING log.seq INTO stored_seq;
            IF NOT FOUND THEN
                RAISE EXCEPTION 'a trigger of event_log keeps events from being stored'
                    USING ERRCODE = 'triggered_action_exception',
                        HINT = 'chem-persistence doctor names the triggers of others.';
            END IF;
            stored_flow_id := e.flow_id;
            stored_version := e.version;
            RETURN NEXT;
            IF e.version = 0 AND e.payload ->> 'type' = 'flowinitialized'
                    AND e.metadata ? 'chem_persistence.run_by' THEN
                -- a program that begins a flow holds it at once; the copy of one is nobody's
                INSERT INTO flow_runs
                    (flow_id, definition_hash, due_at, lease, holder, by_program)
                VALUES (e.flow_id, e.payload ->> 'definition_hash',
                    coalesce(present + make_interval(secs => e.seconds), 'infinity'), e.lease,
                    e.holder, true);
            END IF;
            changed := changed OR NOT (e.payload ->> 'type' IN ('stepstarted', 'stepfinished',
                    'propertypreferenceassigned', 'branchcreated')
                OR (e.payload ->> 'type' = 'flowinitialized' AND NOT e.payload ? 'due')
                OR (e.payload ->> 'type' = 'stepsignal' AND e.lease IS NOT NULL));
        END IF;
    END LOOP;

    IF artifacts IS NOT NULL THEN
        FOR e IN
            SELECT document.*, artifact_payloads[document.place]::jsonb AS payload,
                artifact_contents[document.place] AS content
            FROM ROWS FROM (json_to_recordset(artifacts::json) AS (artifact_hash text, kind text,
                    media_type text, metadata jsonb, flow_id uuid, version integer,
                    content_is_payload boolean))
                WITH ORDINALITY AS document
                (artifact_hash, kind, media_type, metadata, flow_id, version, content_is_payload,
                    place)
            WHERE document.flow_id = ANY (stored_flow_ids)
            ORDER BY document.place
        LOOP
            SELECT stored.seq INTO STRICT produced_in
            FROM event_log AS stored
            WHERE stored.flow_id = e.flow_id AND stored.version = e.version;
            INSERT INTO workflow_step_artifacts
                (artifact_hash, kind, payload, content, content_is_payload, media_type, metadata,
                    flow_id, produced_in_seq)
            VALUES (e.artifact_hash, e.kind, e.payload, e.content,
                coalesce(e.content_is_payload, false), e.media_type, e.metadata, e.flow_id,
                produced_in)
            ON CONFLICT DO NOTHING;
            IF NOT FOUND AND NOT EXISTS (SELECT 1 FROM workflow_step_artifacts AS stored
                    WHERE stored.flow_id = e.flow_id AND stored.artifact_hash = e.artifact_hash) THEN
                RAISE EXCEPTION
                    'a trigger or rule of workflow_step_artifacts keeps artifacts from being stored'
                    USING ERRCODE = 'triggered_action_exception',
                        HINT = 'chem-persistence doctor names the triggers and rules of others.';
            END IF;
        END LOOP;
    END IF;

    IF retries IS NOT NULL THEN
        FOR e IN
            SELECT retry.flow_id, retry.step_id, retry.retry_count
            FROM json_to_recordset(retries::json) AS retry (flow_id uuid, step_id text, retry_count bigint)
            WHERE retry.flow_id = ANY (stored_flow_ids)
        LOOP
            UPDATE workflow_step_executions AS step
            SET status = 'pending', retry_count = e.retry_count
            WHERE step.flow_id = e.flow_id AND step.step_id = e.step_id;
        END LOOP;
    END IF;

    IF steps IS NOT NULL THEN
        FOR e IN
            SELECT change.*
            FROM json_to_recordset(steps::json) AS change (flow_id uuid, step_index bigint, step_id text,
                status text, attempts integer, retry_count bigint, fingerprint text,
                started_at timestamptz, finished_at timestamptz, error jsonb)
            WHERE change.flow_id = ANY (stored_flow_ids)
        LOOP
            INSERT INTO workflow_step_executions AS step
                (flow_id, step_index, step_id, status, attempts, retry_count, fingerprint, started_at,
                    finished_at, error)
            VALUES (e.flow_id, e.step_index, e.step_id, e.status, e.attempts, coalesce(e.retry_count, 0),
                e.fingerprint, e.started_at, e.finished_at, e.error)
            ON CONFLICT (flow_id, step_index) DO UPDATE SET
                status = excluded.status,
                attempts = step.attempts + excluded.attempts,
                retry_count = greatest(step.retry_count, excluded.retry_count),
                fingerprint = coalesce(excluded.fingerprint, step.fingerprint),
                started_at = coalesce(excluded.started_at, step.started_at),
                finished_at = coalesce(excluded.finished_at, step.finished_at),
                error = coalesce(excluded.error, step.error);
        END LOOP;
    END IF;

    IF changed THEN
        FOR written IN
            SELECT DISTINCT document.flow_id, document.first_version,
                document.lease IS NOT NULL AS is_leased
            FROM json_to_recordset(events::json) AS document (flow_id uuid, first_version integer,
                lease uuid, keeps boolean)
            WHERE document.flow_id = ANY (stored_flow_ids) AND document.keeps IS NOT TRUE
            ORDER BY document.flow_id
        LOOP
            PERFORM change_flow_run(written.flow_id, written.first_version, written.is_leased,
                false);
        END LOOP;
    END IF;
END
$$;

-- Each flow has its own row of an artifact, so that no flow uses that of another one.
CREATE OR REPLACE FUNCTION use_artifacts(flows uuid[], hashes text[]) RETURNS void LANGUAGE sql AS $$
$$;
