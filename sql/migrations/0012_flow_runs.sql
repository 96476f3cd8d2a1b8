-- Flows that are given to workers: which wants one, from when on, and which worker holds it.
-- The log stays the truth: the rows of flow_runs follow its events, and can be rebuilt from them.
-- Each statement stands below a line that begins with "-- statement:"; they run one by one in one
-- transaction.

-- statement: a flow that was given to workers, until it is completed or cancelled. due_at is when
-- a worker may claim it: the time of a start, a retry or a poll, or when the lease of its holder
-- ends; infinity means not by itself. lease is the random token of the claim, holder the worker;
-- called is whether something happened to the flow that its holder may not have read. The rows are
-- few and change often: a vacuum is cheap, and a late one makes every claim read dead entries.
CREATE TABLE flow_runs (
    flow_id uuid NOT NULL,
    definition_hash text NOT NULL,
    due_at timestamptz NOT NULL,
    lease uuid,
    holder uuid,
    called boolean NOT NULL DEFAULT false,
    CONSTRAINT flow_runs_pkey PRIMARY KEY (flow_id),
    CONSTRAINT flow_runs_holder_check CHECK ((lease IS NULL) = (holder IS NULL)),
    CONSTRAINT flow_runs_called_check CHECK (lease IS NOT NULL OR NOT called)
) WITH (
    autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 500,
    autovacuum_vacuum_cost_delay = 0,
    autovacuum_analyze_scale_factor = 0.1, autovacuum_analyze_threshold = 500
)

-- statement: the flows of a definition that want a worker, the longest due first
CREATE INDEX flow_runs_due_idx ON flow_runs (definition_hash, due_at)

-- statement: the workers and when each was seen last, for people; nothing is decided by it
CREATE TABLE flow_workers (
    worker_id uuid NOT NULL,
    name text NOT NULL,
    definitions text[] NOT NULL,
    seen_at timestamptz NOT NULL,
    CONSTRAINT flow_workers_pkey PRIMARY KEY (worker_id)
)

-- statement: a limited resource has one row for each flow that may use it at a time; a row is free
-- if it names no flow, or one whose step does not run any more
CREATE TABLE resource_slots (
    resource text NOT NULL,
    slot integer NOT NULL,
    flow_id uuid,
    step_index bigint,
    CONSTRAINT resource_slots_pkey PRIMARY KEY (resource, slot),
    CONSTRAINT resource_slots_slot_check CHECK (slot >= 0),
    CONSTRAINT resource_slots_user_check CHECK ((flow_id IS NULL) = (step_index IS NULL))
)

-- statement: roles that may append to the log, or read it, still may: the append writes flow_runs
-- from now on, and `chem-persistence roles` is run only some time after a migration
DO $$
DECLARE
    given record;
BEGIN
    FOR given IN
        SELECT own.grantee, bool_or(own.privilege_type = 'INSERT') AS may_append
        FROM pg_class AS relation
        CROSS JOIN LATERAL aclexplode(relation.relacl) AS own
        WHERE relation.oid = 'event_log'::regclass AND own.grantee <> relation.relowner
            AND own.privilege_type IN ('SELECT', 'INSERT')
        GROUP BY own.grantee
    LOOP
        EXECUTE format('GRANT %s ON flow_runs, flow_workers, resource_slots TO %s',
            CASE WHEN given.may_append THEN 'SELECT, INSERT, UPDATE, DELETE' ELSE 'SELECT' END,
            CASE given.grantee WHEN 0 THEN 'PUBLIC' ELSE given.grantee::regrole::text END);
    END LOOP;
END
$$

-- statement: change a flow's row by its events; return whether it was changed. The end of the flow
-- counts, or else the last event that decides when it is due, and whether something called the flow
-- before that or since
CREATE FUNCTION change_flow_run(
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
                OR (event.event_type = 'flowinitialized' AND event.payload ? 'due'))) AS decisive,
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
        WHEN decisive.event_type = 'retryscheduled' THEN present
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

-- statement: claim due flows of some definitions for a worker, and return them. Definitions that
-- have due flows share the claim evenly. AS MATERIALIZED, because a plan that repeats the subquery
-- for each row would lock more rows than are claimed. A flow that was called stays called: an append
-- of its last holder that is in flight may still release it
CREATE FUNCTION claim_flow_runs(
    definitions text[], worker uuid, token uuid, most integer, duration interval
) RETURNS TABLE (claimed_flow_id uuid, claimed_definition_hash text) LANGUAGE plpgsql AS $$
BEGIN
    RETURN QUERY
    WITH asked AS MATERIALIZED (
        SELECT definition.hash, (SELECT run.due_at FROM flow_runs AS run
            WHERE run.definition_hash = definition.hash ORDER BY run.due_at LIMIT 1) AS due_at
        FROM unnest(definitions) AS definition (hash)
    ), busy AS MATERIALIZED (
        SELECT asked.hash, (most - 1) / count(*) OVER () + 1 AS share
        FROM asked
        WHERE asked.due_at <= now()
        ORDER BY asked.due_at
    ), due AS MATERIALIZED (
        SELECT candidate.flow_id
        FROM busy
        CROSS JOIN LATERAL (
            SELECT run.flow_id
            FROM flow_runs AS run
            WHERE run.definition_hash = busy.hash AND run.due_at <= now()
            ORDER BY run.due_at
            LIMIT busy.share
            FOR UPDATE SKIP LOCKED
        ) AS candidate
        LIMIT most
    )
    UPDATE flow_runs AS run
    SET lease = token, holder = worker, due_at = now() + duration
    FROM due
    WHERE run.flow_id = due.flow_id
    RETURNING run.flow_id, run.definition_hash;
END
$$

-- statement: claim one flow for a worker, also before it is due; return its definition, or null if
-- somebody holds it or it has no row
CREATE FUNCTION take_flow_run(flow uuid, worker uuid, token uuid, duration interval)
RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    present timestamptz := now();
    taken text;
BEGIN
    UPDATE flow_runs AS run
    SET lease = token, holder = worker, due_at = present + duration
    WHERE run.flow_id = flow AND (run.lease IS NULL OR run.due_at <= present)
    RETURNING run.definition_hash INTO taken;
    RETURN taken;
END
$$

-- statement: renew leases, given as flows and tokens side by side; return those that are held, and
-- whether they were renewed. A row that is locked is skipped, and read afterwards: its lease is
-- lost only if it has another token
CREATE FUNCTION renew_flow_runs(flow_ids uuid[], tokens uuid[], duration interval)
RETURNS TABLE (held_flow_id uuid, is_renewed boolean, is_called boolean) LANGUAGE plpgsql AS $$
DECLARE
    renewed uuid[] := '{}';
BEGIN
    FOR held_flow_id, is_renewed, is_called IN
        WITH mine AS MATERIALIZED (
            SELECT run.flow_id
            FROM unnest(flow_ids, tokens) AS held (flow_id, token)
            JOIN flow_runs AS run ON run.flow_id = held.flow_id AND run.lease = held.token
            FOR UPDATE OF run SKIP LOCKED
        )
        UPDATE flow_runs AS run
        SET due_at = now() + duration
        FROM mine
        WHERE run.flow_id = mine.flow_id
        RETURNING run.flow_id, true, run.called
    LOOP
        renewed := array_append(renewed, held_flow_id);
        RETURN NEXT;
    END LOOP;
    IF cardinality(renewed) < cardinality(flow_ids) THEN
        RETURN QUERY
        SELECT run.flow_id, false, run.called
        FROM unnest(flow_ids, tokens) AS held (flow_id, token)
        JOIN flow_runs AS run ON run.flow_id = held.flow_id AND run.lease = held.token
        WHERE run.flow_id <> ALL (renewed);
    END IF;
END
$$

-- statement: release a flow with which there was nothing to do, due after a while (null: not by
-- itself), or now if it was called; return whether it was held by this lease. A look at the log
-- instead of the flag would miss what commits meanwhile
CREATE FUNCTION give_back_flow_run(flow uuid, token uuid, due_in interval)
RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    present timestamptz := now();
    due timestamptz := coalesce(present + due_in, 'infinity');
BEGIN
    UPDATE flow_runs AS run
    SET lease = NULL, holder = NULL, called = false,
        due_at = CASE WHEN run.called THEN present ELSE due END
    WHERE run.flow_id = flow AND run.lease = token;
    RETURN FOUND;
END
$$

-- statement: release flows, given as flows and tokens side by side, due now; return those released.
-- A row that is locked is skipped
CREATE FUNCTION release_flow_runs(flow_ids uuid[], tokens uuid[])
RETURNS SETOF uuid LANGUAGE plpgsql AS $$
BEGIN
    RETURN QUERY
    WITH mine AS MATERIALIZED (
        SELECT run.flow_id
        FROM unnest(flow_ids, tokens) AS held (flow_id, token)
        JOIN flow_runs AS run ON run.flow_id = held.flow_id AND run.lease = held.token
        ORDER BY run.flow_id
        FOR UPDATE OF run SKIP LOCKED
    )
    UPDATE flow_runs AS run
    SET lease = NULL, holder = NULL, called = false, due_at = now()
    FROM mine
    WHERE run.flow_id = mine.flow_id
    RETURNING run.flow_id;
END
$$

-- statement: call flows, as a signal does, without an event; return those that were called. A row
-- that is locked is skipped
CREATE FUNCTION call_flow_runs(flow_ids uuid[])
RETURNS SETOF uuid LANGUAGE plpgsql AS $$
BEGIN
    RETURN QUERY
    WITH called AS MATERIALIZED (
        SELECT run.flow_id
        FROM flow_runs AS run
        WHERE run.flow_id = ANY (flow_ids)
        ORDER BY run.flow_id
        FOR UPDATE SKIP LOCKED
    )
    UPDATE flow_runs AS run
    SET called = run.lease IS NOT NULL,
        due_at = CASE WHEN run.lease IS NULL THEN now() ELSE run.due_at END
    FROM called
    WHERE run.flow_id = called.flow_id
    RETURNING run.flow_id;
END
$$

-- statement: add the rows of flows that were given to workers, are not over, and have none; return
-- how many, at most as many as are asked for. An append that found no row to change is waited for,
-- and those that follow find the new one: a row that came between would miss what they say
CREATE FUNCTION add_flow_runs(most integer) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    missing uuid[];
    added uuid;
    rows bigint := 0;
BEGIN
    missing := ARRAY(
        SELECT event.flow_id
        FROM event_log AS event
        WHERE event.version = 0 AND event.event_type = 'flowinitialized' AND event.payload ? 'due'
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
        INSERT INTO flow_runs AS run (flow_id, definition_hash, due_at)
        SELECT event.flow_id, event.payload ->> 'definition_hash', 'infinity'
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
    -- holds the flow, also lease, the token of its claim, the same one for all events of the flow
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
    is_signal boolean;
    begins boolean := false;
    changed uuid[] := '{}';
    signalled uuid[] := '{}';
    given uuid[];
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
    FOR stored_flow_id, stored_version, stored_seq, is_signal IN
        INSERT INTO event_log AS log (flow_id, version, event_id, ts, event_type, payload,
            metadata, chain_hash)
        SELECT e.flow_id, e.version, e.event_id, e.ts, e.payload ->> 'type', e.payload,
            e.metadata, e.chain_hash
        FROM ROWS FROM (json_to_recordset(events::json) AS (flow_id uuid, version integer,
            event_id uuid, ts timestamptz,
                payload jsonb, metadata jsonb, chain_hash bytea, first_version integer,
                    previous_hash bytea, lease uuid))
            WITH ORDINALITY AS e
            (flow_id, version, event_id, ts, payload, metadata, chain_hash, first_version,
                previous_hash, lease, place)
        WHERE (SELECT count(*) FROM event_log AS taken
                WHERE taken.flow_id = e.flow_id AND taken.version = e.first_version) = 0
            AND (e.first_version = 0 OR (SELECT previous.chain_hash FROM event_log AS previous
                WHERE previous.flow_id = e.flow_id
                    AND previous.version = e.first_version - 1) = e.previous_hash)
            AND (e.lease IS NULL OR (SELECT run.lease FROM flow_runs AS run
                WHERE run.flow_id = e.flow_id) = e.lease)
        ORDER BY e.flow_id, e.place
        RETURNING log.flow_id, log.version, log.seq,
            CASE WHEN log.event_type IN ('stepstarted', 'stepfinished',
                    'propertypreferenceassigned', 'branchcreated') THEN NULL
                WHEN log.event_type = 'flowinitialized' AND NOT log.payload ? 'due' THEN NULL
                ELSE log.event_type = 'stepsignal' END
    LOOP
        RETURN NEXT;
        stored_events := stored_events + 1;
        IF is_signal THEN
            signalled := array_append(signalled, stored_flow_id);
        ELSIF NOT is_signal THEN
            changed := array_append(changed, stored_flow_id);
            begins := begins OR stored_version = 0;
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
                    (flow_id uuid, version integer, previous_hash bytea, lease uuid)
                LEFT JOIN json_to_recordset(events::json) AS own (flow_id uuid, version integer,
                    chain_hash bytea)
                    ON own.flow_id = e.flow_id AND own.version = e.version - 1
                WHERE NOT EXISTS (SELECT 1 FROM event_log AS log WHERE log.flow_id = e.flow_id
                    AND log.version = e.version)
                    AND (e.version = 0 OR EXISTS (SELECT 1 FROM event_log AS previous
                        WHERE previous.flow_id = e.flow_id AND previous.version = e.version - 1
                            AND previous.chain_hash = coalesce(own.chain_hash, e.previous_hash)))
                    AND (e.lease IS NULL OR EXISTS (SELECT 1 FROM flow_runs AS run
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
    IF changed <> '{}' OR signalled <> '{}' THEN
        -- most flows are not given to workers, and need no look at their events
        given := ARRAY(
            SELECT run.flow_id
            FROM flow_runs AS run
            WHERE run.flow_id = ANY (changed || signalled)
            ORDER BY run.flow_id
            FOR UPDATE);
        IF begins OR given <> '{}' THEN
            FOR change IN
                SELECT DISTINCT e.flow_id, e.lease IS NOT NULL AS is_leased,
                    CASE WHEN e.flow_id = ANY (changed) THEN e.first_version END AS since
                FROM json_to_recordset(events::json) AS e (flow_id uuid, first_version integer,
                    lease uuid)
                WHERE e.flow_id = ANY (given)
                    OR (e.first_version = 0 AND e.flow_id = ANY (changed))
                ORDER BY e.flow_id
            LOOP
                PERFORM change_flow_run(change.flow_id, change.since, change.is_leased, false);
            END LOOP;
        END IF;
    END IF;
END
$$
