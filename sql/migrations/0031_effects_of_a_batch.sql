-- What the events of a batch mean for the runs of their flows is found by the statement that stores
-- them, not by a loop of PL/pgSQL over them, and the numbers are returned in the order in which they
-- were given out, which is that of the array, without a sort: 73 to 66 thousand instructions an event
-- in batches of 500. The rest of the function is that of migration 0024, which describes its rows.
-- Each statement stands below a line that begins with "-- statement:"; they run one by one in one
-- transaction.

-- statement: append events to the ends of flows; returns the seq of each event in the order of the
-- array, and null for those of a flow that was left out
CREATE OR REPLACE FUNCTION append_rows(
    -- each flow once
    flows append_flow[],
    -- in the order of their flows' ids and of their versions, so that two batches cannot deadlock
    events append_event[],
    -- in hash order so that batches which share some cannot deadlock, or null
    artifacts append_artifact[],
    retries append_retry[],
    steps append_step[],
    -- how long to wait for another writer's lock at most, such as '1s'; null leaves it to the
    -- session's own setting
    patience text
) RETURNS bigint[] LANGUAGE plpgsql AS $$
DECLARE
    sequence oid := 'event_log_seq_seq'::regclass;
    seqs bigint[];
    left_out uuid[];
    begun uuid[];
    held uuid[];
    ended uuid[];
    changed uuid[];
    signalled uuid[];
    given uuid[];
    with_reuse boolean;
    with_seal boolean;
    with_effects boolean;
    attempt integer := 0;
    stored_rows bigint;
    one_flow_id uuid;
    change record;
BEGIN
    -- on a session that a pooler shares, whose search path does not end with pg_temp
    IF pg_my_temp_schema() <> 0 THEN
        IF EXISTS (SELECT 1
                FROM (VALUES ('event_log'), ('event_log_seq_seq'), ('workflow_step_artifacts'),
                    ('workflow_step_artifact_uses'), ('workflow_step_executions'), ('flow_runs'),
                    ('archived_flows')) AS named (name)
                JOIN pg_class AS relation ON relation.oid = to_regclass(named.name)
                WHERE relation.relnamespace = pg_my_temp_schema()) THEN
            RAISE EXCEPTION 'a temporary table hides a table of the log'
                USING ERRCODE = 'object_not_in_prerequisite_state',
                    HINT = 'ALTER ROLE ... SET search_path = ..., pg_temp';
        END IF;
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
    -- one before is missing or another's, or is the seal of the flow; so is one that another worker
    -- has claimed, and one that begins with the id of an archived flow, unless a bundle of it is
    -- imported; the scalar subqueries make the plan look each up in the key, however few rows the
    -- planner expects, and hide from it how long the arrays are, so that it keeps one generic plan;
    -- what an event means for its flow, beside its step: 1 it takes a result over, 2 it seals the flow,
    -- 3 it is a signal, 4 it ends the flow, 5 it begins one that workers run, 6 one that a program runs,
    -- 7 it may change when the flow is due
    WITH behind AS MATERIALIZED (
        SELECT f.flow_id
        FROM unnest((SELECT flows)) AS f
        WHERE (SELECT CASE WHEN last.version = f.first_version - 1
                        AND (last.event_type <> 'stepsignal'
                            OR last.payload ->> 'signal' <> 'chem_persistence.sealed')
                    THEN last.chain_hash ELSE '' END
                FROM event_log AS last
                WHERE last.flow_id = f.flow_id AND last.version >= f.first_version - 1
                ORDER BY last.version DESC LIMIT 1) IS DISTINCT FROM f.previous_hash
            OR (f.first_version = 0
                AND (SELECT gone.version FROM archived_flows AS gone
                    WHERE gone.flow_id = f.flow_id LIMIT 1) IS NOT NULL
                AND coalesce(current_setting('chem_persistence.import', true), '') <> 'on')
            OR (f.lease IS NOT NULL AND (f.holder IS NULL OR f.first_version > 0)
                AND (SELECT run.lease FROM flow_runs AS run
                    WHERE run.flow_id = f.flow_id) IS DISTINCT FROM f.lease)
    ), stored AS (
        INSERT INTO event_log AS log (flow_id, version, event_id, ts, event_type, payload,
            metadata, chain_hash)
        SELECT e.flow_id, e.version, e.event_id, e.ts, e.payload ->> 'type', e.payload,
            e.metadata, e.chain_hash
        FROM unnest((SELECT events)) AS e
        WHERE e.flow_id <> ALL (ARRAY(SELECT behind.flow_id FROM behind))
        RETURNING log.seq, log.flow_id, CASE log.event_type
            WHEN 'stepstarted' THEN NULL
            WHEN 'stepfinished' THEN CASE WHEN log.payload ? 'reused_from' THEN 1 END
            WHEN 'stepsignal' THEN CASE log.payload ->> 'signal'
                WHEN 'chem_persistence.sealed' THEN 2 ELSE 3 END
            WHEN 'flowcompleted' THEN 4
            WHEN 'flowcancelled' THEN 4
            WHEN 'flowinitialized' THEN CASE WHEN log.payload ? 'due' THEN 5
                WHEN log.metadata ? 'chem_persistence.run_by' THEN 6 END
            WHEN 'propertypreferenceassigned' THEN NULL
            WHEN 'branchcreated' THEN NULL
            ELSE 7 END AS effect
    )
    SELECT array_agg(stored.seq),
        coalesce(bool_or(stored.effect = 1), false),
        coalesce(bool_or(stored.effect = 2), false),
        count(stored.effect) > 0,
        coalesce(array_agg(stored.flow_id) FILTER (WHERE stored.effect = 3), '{}'),
        coalesce(array_agg(stored.flow_id) FILTER (WHERE stored.effect IN (2, 4)), '{}'),
        coalesce(array_agg(stored.flow_id) FILTER (WHERE stored.effect = 5), '{}'),
        coalesce(array_agg(stored.flow_id) FILTER (WHERE stored.effect = 6), '{}'),
        coalesce(array_agg(stored.flow_id) FILTER (WHERE stored.effect = 7), '{}'),
        ARRAY(SELECT behind.flow_id FROM behind)
    INTO seqs, with_reuse, with_seal, with_effects, signalled, ended, begun, held, changed,
        left_out
    FROM stored;

    IF with_seal THEN
        IF EXISTS (SELECT 1
                FROM event_log AS seal
                JOIN event_log AS event ON event.flow_id = seal.flow_id
                    AND event.version = seal.version + 1
                WHERE seal.flow_id = ANY (ended) AND seal.event_type = 'stepsignal'
                    AND seal.payload ->> 'signal' = 'chem_persistence.sealed') THEN
            RAISE EXCEPTION 'an event follows the seal of its flow'
                USING ERRCODE = 'invalid_parameter_value';
        END IF;
    END IF;

    IF cardinality(seqs) IS DISTINCT FROM cardinality(events) THEN
        IF coalesce(cardinality(seqs), 0) <> (SELECT count(*) FROM unnest((SELECT events)) AS e
                WHERE e.flow_id <> ALL (left_out)) THEN
            RAISE EXCEPTION 'a trigger of event_log keeps events from being stored'
                USING ERRCODE = 'triggered_action_exception',
                    HINT = 'chem-persistence doctor names the triggers of others.';
        END IF;
        seqs := ARRAY(
            SELECT CASE WHEN e.flow_id <> ALL (left_out) THEN (SELECT log.seq
                FROM event_log AS log
                WHERE log.flow_id = e.flow_id AND log.version = e.version) END
            FROM unnest((SELECT events)) WITH ORDINALITY AS e (flow_id, version, event_id, ts,
                chain_hash, payload, metadata, place)
            ORDER BY e.place);
    END IF;

    IF artifacts IS NOT NULL THEN  -- one that is already stored stays as it is
        LOOP
            INSERT INTO workflow_step_artifacts
                (artifact_hash, kind, payload, content, content_is_payload, media_type, metadata,
                    flow_id, produced_in_seq)
            SELECT a.artifact_hash, a.kind, a.payload, a.content, a.content_is_payload,
                a.media_type, a.metadata, a.flow_id,
                (SELECT stored.seq FROM event_log AS stored WHERE stored.flow_id = a.flow_id
                    AND stored.version = a.version)
            FROM unnest((SELECT artifacts)) AS a
            WHERE a.flow_id <> ALL (left_out)
            ON CONFLICT DO NOTHING;
            GET DIAGNOSTICS stored_rows = ROW_COUNT;
            EXIT WHEN stored_rows >= cardinality(artifacts);
            -- fewer than there are: others stored them before, and the flow uses these
            BEGIN
                INSERT INTO workflow_step_artifact_uses (artifact_hash, flow_id)
                SELECT DISTINCT a.artifact_hash, a.flow_id
                FROM unnest((SELECT artifacts)) AS a
                JOIN workflow_step_artifacts AS stored ON stored.artifact_hash = a.artifact_hash
                WHERE a.flow_id <> ALL (left_out)
                    AND stored.flow_id <> a.flow_id AND stored.kind NOT IN
                        ('chem_persistence.FlowDefinition', 'chem_persistence.StepDefinition')
                ORDER BY a.artifact_hash, a.flow_id
                ON CONFLICT DO NOTHING;
                EXIT WHEN NOT EXISTS (SELECT 1
                    FROM unnest((SELECT artifacts)) AS a
                    WHERE a.flow_id <> ALL (left_out)
                        AND (SELECT count(*) FROM workflow_step_artifacts AS stored
                            WHERE stored.artifact_hash = a.artifact_hash) = 0);
            EXCEPTION WHEN foreign_key_violation THEN
                NULL;  -- one was archived meanwhile: the next attempt stores it
            END;
            attempt := attempt + 1;
            IF attempt = 5 THEN
                RAISE EXCEPTION
                    'a trigger or rule of workflow_step_artifacts keeps artifacts from being stored'
                    USING ERRCODE = 'triggered_action_exception',
                        HINT = 'chem-persistence doctor names the triggers and rules of others.';
            END IF;
        END LOOP;
    END IF;

    IF with_reuse THEN  -- a step that takes a result over names artifacts that it does not bring
        PERFORM use_artifacts(array_agg(e.flow_id), array_agg(output.hash))
        FROM unnest((SELECT events)) AS e
        CROSS JOIN LATERAL jsonb_array_elements_text(e.payload -> 'outputs')
            AS output (hash)
        WHERE e.flow_id <> ALL (left_out) AND e.payload ? 'reused_from'
            AND e.payload ->> 'type' = 'stepfinished';
        IF EXISTS (SELECT 1
                FROM unnest((SELECT events)) AS e
                JOIN archived_flows AS gone
                    ON gone.flow_id = (e.payload #>> '{reused_from,flow_id}')::uuid
                CROSS JOIN LATERAL jsonb_array_elements_text(e.payload -> 'outputs')
                    AS output (hash)
                WHERE e.flow_id <> ALL (left_out)
                    AND e.payload ->> 'type' = 'stepfinished'
                    AND coalesce(current_setting('chem_persistence.import', true), '') <> 'on'
                    AND NOT EXISTS (SELECT 1 FROM workflow_step_artifacts AS stored
                        WHERE stored.artifact_hash = output.hash)) THEN
            RAISE EXCEPTION 'a result that a step takes over was archived meanwhile'
                USING ERRCODE = 'foreign_key_violation',
                    HINT = 'Run the flow again: the step computes its result itself.';
        END IF;
    END IF;

    IF retries IS NOT NULL THEN
        UPDATE workflow_step_executions AS step
        SET status = 'pending', retry_count = retry.retry_count
        FROM unnest((SELECT retries)) AS retry
        WHERE step.flow_id = retry.flow_id AND step.step_id = retry.step_id
            AND retry.flow_id <> ALL (left_out);
    END IF;

    IF steps IS NOT NULL THEN
        INSERT INTO workflow_step_executions AS step
            (flow_id, step_index, step_id, status, attempts, retry_count, fingerprint, started_at,
                finished_at, error)
        SELECT c.flow_id, c.step_index, c.step_id, c.status, c.attempts, coalesce(c.retry_count, 0),
            c.fingerprint, c.started_at, c.finished_at, c.error
        FROM unnest((SELECT steps)) AS c
        WHERE c.flow_id <> ALL (left_out)
        ON CONFLICT (flow_id, step_index) DO UPDATE SET
            status = excluded.status,
            attempts = step.attempts + excluded.attempts,
            retry_count = greatest(step.retry_count, excluded.retry_count),
            fingerprint = coalesce(excluded.fingerprint, step.fingerprint),
            started_at = coalesce(excluded.started_at, step.started_at),
            finished_at = coalesce(excluded.finished_at, step.finished_at),
            error = coalesce(excluded.error, step.error);
    END IF;

    IF NOT with_effects THEN
        RETURN seqs;
    END IF;

    -- last, since other writers wait for the rows that this locks
    IF signalled <> '{}' THEN  -- a holder calls nobody
        signalled := ARRAY(
            SELECT unnest(signalled)
            EXCEPT
            SELECT f.flow_id FROM unnest((SELECT flows)) AS f WHERE f.lease IS NOT NULL);
    END IF;
    IF changed <> '{}' THEN  -- a program keeps its lease
        changed := ARRAY(
            SELECT unnest(changed)
            EXCEPT
            SELECT f.flow_id FROM unnest((SELECT flows)) AS f WHERE f.keeps);
    END IF;
    -- a program that begins a flow holds it at once, unless the same append ends it; the copy of such
    -- a flow is nobody's
    IF held <> '{}' THEN
        INSERT INTO flow_runs AS run
            (flow_id, definition_hash, due_at, lease, holder, by_program)
        SELECT f.flow_id, (SELECT event.payload ->> 'definition_hash' FROM event_log AS event
                WHERE event.flow_id = f.flow_id AND event.version = 0),
            coalesce(now() + make_interval(secs => f.seconds), 'infinity'), f.lease, f.holder, true
        FROM unnest((SELECT flows)) AS f
        WHERE f.flow_id = ANY (held) AND f.flow_id <> ALL (ended)
        ORDER BY f.flow_id;
    END IF;
    IF changed <> '{}' OR signalled <> '{}' OR ended <> '{}' THEN
        -- most flows are not given to workers, and need no look at their events
        given := ARRAY(
            SELECT run.flow_id
            FROM flow_runs AS run
            WHERE run.flow_id = ANY (changed || signalled || ended)
            ORDER BY run.flow_id
            FOR UPDATE);
    END IF;
    -- the two changes that every flow has need no look at what else was appended, or nearly: one
    -- that has ended has no row, and one whose only event is its first is due as that says
    IF ended <> '{}' AND given <> '{}' THEN
        DELETE FROM flow_runs AS run WHERE run.flow_id = ANY (ended);
        GET DIAGNOSTICS stored_rows = ROW_COUNT;
        IF stored_rows = cardinality(given) THEN
            given := '{}';
        ELSE
            given := ARRAY(SELECT unnest(given) EXCEPT SELECT unnest(ended));
        END IF;
    END IF;
    IF begun <> '{}' THEN
        INSERT INTO flow_runs AS run (flow_id, definition_hash, due_at)
        SELECT event.flow_id, event.payload ->> 'definition_hash',
            coalesce(now() + ((event.payload ->> 'due')::timestamptz - event.ts), 'infinity')
        FROM event_log AS event
        WHERE event.flow_id = ANY (begun) AND event.version = 0
            AND (SELECT count(*) FROM event_log AS following
                WHERE following.flow_id = event.flow_id AND following.version = 1) = 0
        ORDER BY event.flow_id
        ON CONFLICT DO NOTHING;
        GET DIAGNOSTICS stored_rows = ROW_COUNT;
        IF stored_rows < cardinality(begun) THEN  -- one has more events, as an imported flow has
            FOR one_flow_id IN
                SELECT unnest(begun)
                EXCEPT (SELECT unnest(ended) UNION ALL
                    SELECT run.flow_id FROM flow_runs AS run WHERE run.flow_id = ANY (begun))
                ORDER BY 1
            LOOP
                PERFORM change_flow_run(one_flow_id, 0, false, false);
            END LOOP;
        END IF;
    END IF;
    IF given <> '{}' THEN
        FOR change IN
            SELECT f.flow_id, f.lease IS NOT NULL AS is_leased,
                CASE WHEN f.flow_id = ANY (changed) THEN f.first_version END AS since
            FROM unnest((SELECT flows)) AS f
            WHERE f.flow_id = ANY (given)
            ORDER BY f.flow_id
        LOOP
            PERFORM change_flow_run(change.flow_id, change.since, change.is_leased, false);
        END LOOP;
    END IF;
    RETURN seqs;
END
$$
