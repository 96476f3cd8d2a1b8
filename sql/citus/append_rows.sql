-- The append on a distributed log: the function of migration 0024, which describes the rows and the
-- result, as statements of one row and one flow each, which Citus sends to a single shard. It refuses
-- the INSERT ... SELECT of the migration's text.

CREATE OR REPLACE FUNCTION append_rows(
    flows append_flow[],
    events append_event[],
    artifacts append_artifact[],
    retries append_retry[],
    steps append_step[],
    patience text
) RETURNS bigint[] LANGUAGE plpgsql AS $$
DECLARE
    present timestamptz := now();
    -- read here: a statement that is sent to a worker would read the worker's setting
    imports boolean := coalesce(current_setting('chem_persistence.import', true), '') = 'on';
    sequence oid := 'event_log_seq_seq'::regclass;
    seqs bigint[] := '{}';
    stored_flow_ids uuid[] := '{}';
    last_flow_id uuid;
    stored_seq bigint;
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
        SELECT event.*, flow.first_version, flow.previous_hash, flow.lease, flow.holder,
            flow.seconds
        FROM unnest(events) WITH ORDINALITY AS event
            (flow_id, version, event_id, ts, chain_hash, payload, metadata, place)
        JOIN unnest(flows) AS flow ON flow.flow_id = event.flow_id
        ORDER BY event.place
    LOOP
        IF e.flow_id IS DISTINCT FROM last_flow_id THEN  -- once per flow, before its first event
            last_flow_id := e.flow_id;
            -- Citus plans a statement of several tables anew at each call, and one of a single table
            -- for a fraction of that: so each is asked by itself, and only where it matters.
            SELECT coalesce(bool_and(at_end.version < e.first_version
                    AND at_end.chain_hash = e.previous_hash
                    AND (at_end.event_type <> 'stepsignal'
                        OR at_end.payload ->> 'signal' <> 'chem_persistence.sealed')),
                e.first_version = 0) INTO fits
            FROM event_log AS at_end
            WHERE at_end.flow_id = e.flow_id
                AND at_end.version BETWEEN e.first_version - 1 AND e.first_version;
            IF fits AND e.first_version = 0 AND NOT imports THEN
                SELECT count(*) = 0 INTO fits
                FROM archived_flows AS gone
                WHERE gone.flow_id = e.flow_id;
            END IF;
            IF fits AND e.lease IS NOT NULL
                    AND (e.holder IS NULL OR e.first_version > 0) THEN
                SELECT count(*) > 0 INTO fits
                FROM flow_runs AS run
                WHERE run.flow_id = e.flow_id AND run.lease = e.lease;
            END IF;
            is_sealed := false;
            IF fits THEN
                stored_flow_ids := array_append(stored_flow_ids, e.flow_id);
            END IF;
        END IF;
        stored_seq := NULL;
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
        seqs := array_append(seqs, stored_seq);
    END LOOP;

    IF artifacts IS NOT NULL THEN
        FOR e IN
            SELECT artifact.*
            FROM unnest(artifacts) AS artifact
            WHERE artifact.flow_id = ANY (stored_flow_ids)
        LOOP
            SELECT stored.seq INTO STRICT produced_in
            FROM event_log AS stored
            WHERE stored.flow_id = e.flow_id AND stored.version = e.version;
            INSERT INTO workflow_step_artifacts
                (artifact_hash, kind, payload, content, content_is_payload, media_type, metadata,
                    flow_id, produced_in_seq)
            VALUES (e.artifact_hash, e.kind, e.payload, e.content,
                e.content_is_payload, e.media_type, e.metadata, e.flow_id,
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
            FROM unnest(retries) AS retry
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
            FROM unnest(steps) AS change
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
            SELECT flow.flow_id, flow.first_version, flow.lease IS NOT NULL AS is_leased
            FROM unnest(flows) AS flow
            WHERE flow.flow_id = ANY (stored_flow_ids) AND flow.keeps IS NOT TRUE
            ORDER BY flow.flow_id
        LOOP
            PERFORM change_flow_run(written.flow_id, written.first_version, written.is_leased,
                false);
        END LOOP;
    END IF;
    RETURN seqs;
END
$$;
