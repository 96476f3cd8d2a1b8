-- A program that runs a flow by itself holds it under a lease from its first append on, as a worker
-- holds one that it has claimed. The metadata of the first event says so, and the row. The lease is
-- kept while a step waits or is to be tried again, and the program leaves the row to nobody.
-- Each statement stands below a line that begins with "-- statement:"; they run one by one in one
-- transaction.

-- statement: whether the flow was begun by a program that runs it by itself: it is not reported as
-- one that waits for workers
ALTER TABLE flow_runs ADD COLUMN by_program boolean NOT NULL DEFAULT false

-- statement: change a flow's row by its events; return whether it was changed. The end of the flow
-- counts, or else the last event that decides when it is due, and whether something called the flow
-- before that or since
CREATE OR REPLACE FUNCTION change_flow_run(
    -- the flow, and the version from which on its events count: those of one append, or all; null
    -- if they are known to be signals that call the flow
    flow uuid, since integer,
    -- whether they were appended by the holder of the flow, whose signals call nobody
    is_leased boolean,
    -- whether a row that is there is compared with the log: one that is held stays, and the others
    -- only become due earlier
    is_rebuilt boolean
) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    present timestamptz := now();
    own record;
    decisive record;
    due timestamptz;
BEGIN
    IF is_rebuilt THEN
        -- before the events are read: what others append from now on changes the row after this
        PERFORM 1 FROM flow_runs AS run WHERE run.flow_id = flow AND run.lease IS NULL
        FOR UPDATE SKIP LOCKED;
        IF NOT FOUND THEN
            RETURN false;
        END IF;
    ELSIF since IS NULL THEN
        UPDATE flow_runs AS run
        SET called = run.lease IS NOT NULL,
            due_at = CASE WHEN run.lease IS NULL THEN present ELSE run.due_at END
        WHERE run.flow_id = flow;
        RETURN FOUND;
    ELSIF since > 0 THEN
        PERFORM 1 FROM flow_runs AS run WHERE run.flow_id = flow FOR UPDATE;
        IF NOT FOUND THEN
            RETURN false;
        END IF;
    END IF;
    SELECT
        coalesce(
            max(event.version) FILTER (
                WHERE event.event_type IN ('flowcompleted', 'flowcancelled')),
            max(event.version) FILTER (WHERE event.event_type IN ('stepfailed', 'retryscheduled',
                'stepwaits', 'userinteractionrequested')
                OR (event.event_type = 'flowinitialized' AND (event.payload ? 'due'
                    OR (is_rebuilt AND event.metadata ? 'chem_persistence.run_by'))))) AS decisive,
        min(event.version) FILTER (WHERE event.event_type = 'userinteractionprovided'
            OR (event.event_type = 'stepsignal' AND NOT is_leased)) AS first_call,
        max(event.version) FILTER (WHERE event.event_type = 'userinteractionprovided'
            OR (event.event_type = 'stepsignal' AND NOT is_leased)) AS last_call,
        max(event.version) FILTER (WHERE event.event_type IN ('stepstarted', 'stepfinished'))
            AS last_work
    INTO own
    FROM event_log AS event
    WHERE event.flow_id = flow AND event.version >= since;

    IF own.decisive IS NULL THEN
        IF own.last_call IS NULL THEN
            RETURN false;
        END IF;
        UPDATE flow_runs AS run
        SET called = run.lease IS NOT NULL,
            due_at = CASE WHEN run.lease IS NULL THEN present ELSE run.due_at END
        WHERE run.flow_id = flow;
        RETURN FOUND;
    END IF;

    SELECT event.event_type, event.ts, (event.payload ->> CASE event.event_type
        WHEN 'flowinitialized' THEN 'due' WHEN 'retryscheduled' THEN 'not_before' ELSE 'until'
        END)::timestamptz AS wanted
    INTO STRICT decisive
    FROM event_log AS event
    WHERE event.flow_id = flow AND event.version = own.decisive;
    IF decisive.event_type IN ('flowcompleted', 'flowcancelled') THEN
        DELETE FROM flow_runs AS run WHERE run.flow_id = flow;
        RETURN FOUND;
    END IF;
    -- the writer's clock may be wrong: what it waits for is a length of time after its event
    due := CASE
        WHEN own.decisive < greatest(own.last_call, own.last_work) THEN present
        WHEN decisive.wanted IS NOT NULL AND is_rebuilt
            THEN least(decisive.wanted, present + (decisive.wanted - decisive.ts))
        WHEN decisive.wanted IS NOT NULL THEN present + (decisive.wanted - decisive.ts)
        WHEN decisive.event_type IN ('flowinitialized', 'retryscheduled') THEN present
        ELSE 'infinity' END;
    IF is_rebuilt THEN
        UPDATE flow_runs AS run SET due_at = due
        WHERE run.flow_id = flow AND run.lease IS NULL AND run.due_at > due;
        RETURN FOUND;
    END IF;
    IF since = 0 THEN
        INSERT INTO flow_runs AS run (flow_id, definition_hash, due_at)
        SELECT event.flow_id, event.payload ->> 'definition_hash', due
        FROM event_log AS event
        WHERE event.flow_id = flow AND event.version = 0
            AND event.event_type = 'flowinitialized' AND event.payload ? 'due'
        ON CONFLICT DO NOTHING;
        IF FOUND THEN
            RETURN true;
        END IF;
    END IF;
    UPDATE flow_runs AS run
    SET lease = NULL, holder = NULL, called = false,
        due_at = CASE
            WHEN decisive.event_type IN ('stepwaits', 'userinteractionrequested')
                AND (run.called OR (run.lease IS NOT NULL AND own.first_call < own.decisive))
                THEN present
            ELSE due END
    WHERE run.flow_id = flow;
    RETURN FOUND;
END
$$

-- statement: add the rows of flows that were given to workers, or that programs have begun, that
-- are not over and have none; return
-- how many, at most as many as are asked for. An append that found no row to change is waited for,
-- and those that follow find the new one: a row that came between would miss what they say
CREATE OR REPLACE FUNCTION add_flow_runs(most integer) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    missing uuid[];
    added uuid;
    rows bigint := 0;
BEGIN
    missing := ARRAY(
        SELECT event.flow_id
        FROM event_log AS event
        WHERE event.version = 0 AND event.event_type = 'flowinitialized'
            AND (event.payload ? 'due' OR event.metadata ? 'chem_persistence.run_by')
            AND NOT EXISTS (SELECT 1 FROM flow_runs AS run WHERE run.flow_id = event.flow_id)
            AND NOT EXISTS (SELECT 1 FROM event_log AS ending
                WHERE ending.flow_id = event.flow_id
                    AND ending.event_type IN ('flowcompleted', 'flowcancelled'))
        LIMIT most);
    IF missing = '{}' THEN
        RETURN 0;
    END IF;
    PERFORM set_config('lock_timeout', '2s', true);  -- claims and appends wait behind this lock
    LOCK TABLE flow_runs IN EXCLUSIVE MODE;
    FOR added IN
        INSERT INTO flow_runs AS run (flow_id, definition_hash, due_at, by_program)
        SELECT event.flow_id, event.payload ->> 'definition_hash', 'infinity',
            event.metadata ? 'chem_persistence.run_by'
        FROM event_log AS event
        WHERE event.flow_id = ANY (missing) AND event.version = 0
            AND NOT EXISTS (SELECT 1 FROM event_log AS ending
                WHERE ending.flow_id = event.flow_id
                    AND ending.event_type IN ('flowcompleted', 'flowcancelled'))
        ON CONFLICT DO NOTHING
        RETURNING run.flow_id
    LOOP
        PERFORM change_flow_run(added, 0, false, true);
        rows := rows + 1;
    END LOOP;
    RETURN rows;
END
$$

-- statement: append events to the ends of flows; returns what was stored, match it by key
CREATE OR REPLACE FUNCTION append_events(
    -- the events, a flow's own ones side by side and in order; a flow's events are stored all or
    -- none: objects of what the chain hashes (event_id, flow_id, metadata, payload, ts, version),
    -- its chain_hash, and where its flow ended before this batch: first_version, the version to
    -- begin with, and previous_hash, the chain_hash of the event before that one; if the writer
    -- holds the flow, also lease, the token of its claim, the same one for all events of the flow;
    -- if a program begins the flow, also holder, its id, and seconds, for how long it holds the flow
    -- from then on; if it runs the flow by itself and keeps the lease, which the events would
    -- release otherwise, also keeps
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
    effect text;
    begun uuid[] := '{}';
    ended uuid[] := '{}';
    changed uuid[] := '{}';
    signalled uuid[] := '{}';
    changed_rows bigint;
    given uuid[];
    held uuid[] := '{}';
    change record;
    sequence oid := 'event_log_seq_seq'::regclass;
BEGIN
    -- on a session that a pooler shares, whose search path does not end with pg_temp
    IF pg_my_temp_schema() <> 0 THEN
        IF EXISTS (SELECT 1
                FROM (VALUES ('event_log'), ('event_log_seq_seq'), ('workflow_step_artifacts'),
                    ('workflow_step_executions'), ('flow_runs')) AS named (name)
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
    -- one before is missing or another's; so is one that another worker has claimed; the scalar
    -- subqueries make the plan look each up in the key, however few rows the planner expects; the
    -- flows are stored in the order of their ids, so that two batches cannot deadlock
    FOR stored_flow_id, stored_version, stored_seq, effect IN
        INSERT INTO event_log AS log (flow_id, version, event_id, ts, event_type, payload,
            metadata, chain_hash)
        SELECT e.flow_id, e.version, e.event_id, e.ts, e.payload ->> 'type', e.payload,
            e.metadata, e.chain_hash
        FROM ROWS FROM (json_to_recordset(events::json) AS (flow_id uuid, version integer,
            event_id uuid, ts timestamptz,
                payload jsonb, metadata jsonb, chain_hash bytea, first_version integer,
                    previous_hash bytea, lease uuid, holder uuid))
            WITH ORDINALITY AS e
            (flow_id, version, event_id, ts, payload, metadata, chain_hash, first_version,
                previous_hash, lease, holder, place)
        WHERE (SELECT count(*) FROM event_log AS taken
                WHERE taken.flow_id = e.flow_id AND taken.version = e.first_version) = 0
            AND (e.first_version = 0 OR (SELECT previous.chain_hash FROM event_log AS previous
                WHERE previous.flow_id = e.flow_id
                    AND previous.version = e.first_version - 1) = e.previous_hash)
            AND (e.lease IS NULL OR (e.holder IS NOT NULL AND e.first_version = 0)
                OR (SELECT run.lease FROM flow_runs AS run
                    WHERE run.flow_id = e.flow_id) = e.lease)
        ORDER BY e.flow_id, e.place
        RETURNING log.flow_id, log.version, log.seq,
            CASE WHEN log.event_type IN ('stepstarted', 'stepfinished',
                    'propertypreferenceassigned', 'branchcreated') THEN NULL
                WHEN log.event_type IN ('flowcompleted', 'flowcancelled') THEN 'end'
                WHEN log.event_type = 'stepsignal' THEN 'signal'
                WHEN log.event_type <> 'flowinitialized' THEN 'change'
                WHEN log.payload ? 'due' THEN 'begin'
                WHEN log.metadata ? 'chem_persistence.run_by' THEN 'hold' END
    LOOP
        RETURN NEXT;
        stored_events := stored_events + 1;
        IF effect IS NULL THEN
            NULL;
        ELSIF effect = 'end' THEN
            ended := array_append(ended, stored_flow_id);
        ELSIF effect = 'begin' THEN
            begun := array_append(begun, stored_flow_id);
        ELSIF effect = 'hold' THEN
            held := array_append(held, stored_flow_id);
        ELSIF effect = 'signal' THEN
            signalled := array_append(signalled, stored_flow_id);
        ELSE
            changed := array_append(changed, stored_flow_id);
        END IF;
        IF with_more THEN
            stored_flow_ids := array_append(stored_flow_ids, stored_flow_id);
        END IF;
    END LOOP;

    -- fewer events than the document has, which are apart by line breaks. The queries stand in IFs
    -- of their own: an expression with a query costs the start of its plan at each call
    IF stored_events <= octet_length(events) - octet_length(replace(events, E'\n', '')) THEN
        -- is one missing after its predecessor?
        IF EXISTS (SELECT 1
                FROM json_to_recordset(events::json) AS e
                    (flow_id uuid, version integer, previous_hash bytea, lease uuid,
                        holder uuid)
                LEFT JOIN json_to_recordset(events::json) AS own (flow_id uuid, version integer,
                    chain_hash bytea)
                    ON own.flow_id = e.flow_id AND own.version = e.version - 1
                WHERE NOT EXISTS (SELECT 1 FROM event_log AS log WHERE log.flow_id = e.flow_id
                    AND log.version = e.version)
                    AND (e.version = 0 OR EXISTS (SELECT 1 FROM event_log AS previous
                        WHERE previous.flow_id = e.flow_id AND previous.version = e.version - 1
                            AND previous.chain_hash = coalesce(own.chain_hash, e.previous_hash)))
                    AND (e.lease IS NULL OR e.holder IS NOT NULL
                        OR EXISTS (SELECT 1 FROM flow_runs AS run
                            WHERE run.flow_id = e.flow_id AND run.lease = e.lease))) THEN
            RAISE EXCEPTION 'a trigger of event_log keeps events from being stored'
                USING ERRCODE = 'triggered_action_exception',
                    HINT = 'chem-persistence doctor names the triggers of others.';
        END IF;
        -- an event that was refused, and one after it that was not, would leave a gap in the
        -- versions
        IF EXISTS (SELECT 1
                FROM json_to_recordset(events::json) AS e (flow_id uuid, version integer,
                    event_id uuid)
                JOIN event_log AS log ON log.flow_id = e.flow_id AND log.version = e.version
                    AND log.event_id = e.event_id
                WHERE e.version > 0 AND NOT EXISTS (SELECT 1 FROM event_log AS previous
                    WHERE previous.flow_id = e.flow_id AND previous.version = e.version - 1)) THEN
            RAISE EXCEPTION 'appends to one flow carry different leases'
                USING ERRCODE = 'invalid_parameter_value';
        END IF;
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
        IF stored_artifacts < cardinality(artifact_payloads) THEN
            IF EXISTS (SELECT 1
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

    -- last, since other writers wait for the rows that this locks
    IF signalled <> '{}' AND position('"lease"' IN events) > 0 THEN  -- a holder calls nobody
        signalled := ARRAY(
            SELECT unnest(signalled)
            EXCEPT
            SELECT e.flow_id
            FROM json_to_recordset(events::json) AS e (flow_id uuid, lease uuid)
            WHERE e.lease IS NOT NULL);
    END IF;
    IF changed <> '{}' AND position('"keeps"' IN events) > 0 THEN  -- a program keeps its lease
        changed := ARRAY(
            SELECT unnest(changed)
            EXCEPT
            SELECT e.flow_id
            FROM json_to_recordset(events::json) AS e (flow_id uuid, keeps boolean)
            WHERE e.keeps);
    END IF;
    -- a program that begins a flow holds it at once, unless the same append ends it; the copy of such
    -- a flow is nobody's
    IF held <> '{}' THEN
        INSERT INTO flow_runs AS run
            (flow_id, definition_hash, due_at, lease, holder, by_program)
        SELECT e.flow_id, e.payload ->> 'definition_hash',
            coalesce(now() + make_interval(secs => e.seconds), 'infinity'), e.lease, e.holder, true
        FROM json_to_recordset(events::json) AS e (flow_id uuid, version integer, payload jsonb,
            lease uuid, holder uuid, seconds double precision)
        WHERE e.version = 0 AND e.flow_id = ANY (held) AND e.flow_id <> ALL (ended)
        ORDER BY e.flow_id;
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
        GET DIAGNOSTICS changed_rows = ROW_COUNT;
        IF changed_rows = cardinality(given) THEN
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
        GET DIAGNOSTICS changed_rows = ROW_COUNT;
        IF changed_rows < cardinality(begun) THEN  -- one has more events, as an imported flow has
            FOR stored_flow_id IN
                SELECT unnest(begun)
                EXCEPT (SELECT unnest(ended) UNION ALL
                    SELECT run.flow_id FROM flow_runs AS run WHERE run.flow_id = ANY (begun))
                ORDER BY 1
            LOOP
                PERFORM change_flow_run(stored_flow_id, 0, false, false);
            END LOOP;
        END IF;
    END IF;
    IF given <> '{}' THEN
        FOR change IN
            SELECT DISTINCT e.flow_id, e.lease IS NOT NULL AS is_leased,
                CASE WHEN e.flow_id = ANY (changed) THEN e.first_version END AS since
            FROM json_to_recordset(events::json) AS e (flow_id uuid, first_version integer,
                lease uuid)
            WHERE e.flow_id = ANY (given)
            ORDER BY e.flow_id
        LOOP
            PERFORM change_flow_run(change.flow_id, change.since, change.is_leased, false);
        END LOOP;
    END IF;
END
$$
