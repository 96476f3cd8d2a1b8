-- The objects that `chem-persistence distribute` replaces or adds in the schema of schema_f5.sql,
-- as a live PostgreSQL describes them. Written by `make snapshot`; a test compares it with a live
-- database. Do not edit it: edit sql/citus.

CREATE UNLOGGED SEQUENCE event_log_seq_checks AS bigint
    START 1 INCREMENT 1 MINVALUE 1 MAXVALUE 9223372036854775807 CACHE 1 NO CYCLE;

CREATE TABLE workflow_step_artifacts (
    artifact_hash text NOT NULL,
    kind text NOT NULL,
    payload jsonb,
    content bytea,
    media_type text NOT NULL,
    metadata jsonb NOT NULL,
    flow_id uuid NOT NULL,
    produced_in_seq bigint NOT NULL,
    upload_id uuid,
    content_size bigint,
    content_is_payload boolean NOT NULL DEFAULT false,
    has_all_uses boolean NOT NULL DEFAULT true,
    CONSTRAINT workflow_step_artifacts_pkey PRIMARY KEY (flow_id, artifact_hash),
    CONSTRAINT workflow_step_artifacts_body_check CHECK (num_nonnulls(payload, content, upload_id) = 1),
    CONSTRAINT workflow_step_artifacts_content_is_payload_check CHECK (content IS NOT NULL OR NOT content_is_payload),
    CONSTRAINT workflow_step_artifacts_content_size_check CHECK (num_nonnulls(upload_id, content_size) <> 1 AND content_size >= 0),
    CONSTRAINT workflow_step_artifacts_hash_check CHECK (artifact_hash ~ '^[0-9a-f]{64}$'::text),
    CONSTRAINT workflow_step_artifacts_metadata_check CHECK (jsonb_typeof(metadata) = 'object'::text)
);

CREATE INDEX workflow_step_artifacts_hash_idx ON workflow_step_artifacts USING btree (artifact_hash);

CREATE OR REPLACE FUNCTION append_events(events text, artifacts text, artifact_payloads text[], artifact_contents bytea[], retries text, steps text, patience text)
 RETURNS TABLE(stored_flow_id uuid, stored_version integer, stored_seq bigint)
 LANGUAGE plpgsql
AS $function$
DECLARE
    flow_rows append_flow[];
    event_rows append_event[];
    artifact_rows append_artifact[];
    retry_rows append_retry[];
    step_rows append_step[];
BEGIN
    SELECT array_agg(row(document.flow_id, document.version, document.event_id, document.ts,
                document.chain_hash, document.payload, document.metadata)::append_event
            ORDER BY document.flow_id, document.place),
        array_agg(row(document.flow_id, document.first_version, document.previous_hash,
                document.lease, document.holder, document.seconds, document.keeps)::append_flow
            ORDER BY document.flow_id) FILTER (WHERE document.is_first)
    INTO event_rows, flow_rows
    FROM (
        SELECT given.*, row_number() OVER (PARTITION BY given.flow_id ORDER BY given.place) = 1
            AS is_first
        FROM ROWS FROM (json_to_recordset(events::json) AS (flow_id uuid, version integer,
                event_id uuid, ts timestamptz, payload jsonb, metadata jsonb, chain_hash bytea,
                first_version integer, previous_hash bytea, lease uuid, holder uuid,
                seconds double precision, keeps boolean))
            WITH ORDINALITY AS given
            (flow_id, version, event_id, ts, payload, metadata, chain_hash, first_version,
                previous_hash, lease, holder, seconds, keeps, place)
    ) AS document;
    IF (SELECT bool_or(given.lease IS DISTINCT FROM flow.lease)
            FROM json_to_recordset(events::json) AS given (flow_id uuid, lease uuid)
            JOIN unnest(flow_rows) AS flow ON flow.flow_id = given.flow_id) THEN
        RAISE EXCEPTION 'appends to one flow carry different leases'
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF artifacts IS NOT NULL THEN
        artifact_rows := ARRAY(
            SELECT row(document.flow_id, document.version,
                coalesce(document.content_is_payload, false), document.artifact_hash, document.kind,
                document.media_type, document.metadata, artifact_payloads[document.place]::jsonb,
                artifact_contents[document.place])::append_artifact
            FROM ROWS FROM (json_to_recordset(artifacts::json) AS (artifact_hash text, kind text,
                    media_type text, metadata jsonb, flow_id uuid, version integer,
                    content_is_payload boolean))
                WITH ORDINALITY AS document
                (artifact_hash, kind, media_type, metadata, flow_id, version, content_is_payload,
                    place)
            ORDER BY document.place);
    END IF;
    IF retries IS NOT NULL THEN
        retry_rows := ARRAY(
            SELECT document FROM json_populate_recordset(NULL::append_retry, retries::json)
                AS document);
    END IF;
    IF steps IS NOT NULL THEN
        step_rows := ARRAY(
            SELECT document FROM json_populate_recordset(NULL::append_step, steps::json)
                AS document);
    END IF;
    RETURN QUERY
    SELECT stored.flow_id, stored.version, stored.seq
    FROM unnest(event_rows,
            append_rows(flow_rows, event_rows, artifact_rows, retry_rows, step_rows, patience))
        AS stored (flow_id, version, event_id, ts, chain_hash, payload, metadata, seq)
    WHERE stored.seq IS NOT NULL;
END
$function$;

CREATE OR REPLACE FUNCTION append_one(flow uuid, place integer, previous bytea, token uuid, keeps boolean, event uuid, at timestamp with time zone, link bytea, fact jsonb, context jsonb, step bigint, step_name text, print text, effect text, patience text)
 RETURNS bigint
 LANGUAGE plpgsql
AS $function$
BEGIN
    RETURN (append_rows(
        ARRAY[ROW(flow, place, previous, token, NULL, NULL, keeps)::append_flow],
        ARRAY[ROW(flow, place, event, at, link, fact, context)::append_event],
        NULL,
        NULL,
        CASE WHEN step IS NULL THEN NULL
            WHEN print IS NULL THEN ARRAY[
                ROW(flow, step, 1, step_name, 'running', NULL, NULL, at, NULL, NULL)::append_step]
            ELSE ARRAY[ROW(flow, step, 0, step_name, 'finished', NULL, print, NULL, at,
                NULL)::append_step] END,
        patience))[1];
END
$function$;

CREATE OR REPLACE FUNCTION append_rows(flows append_flow[], events append_event[], artifacts append_artifact[], retries append_retry[], steps append_step[], patience text)
 RETURNS bigint[]
 LANGUAGE plpgsql
AS $function$
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
$function$;

CREATE OR REPLACE FUNCTION archive_flows(flow_ids uuid[], versions integer[], heads bytea[], bundle text, actor text)
 RETURNS TABLE(archived_flow_id uuid, archived_no bigint)
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET "citus.enable_local_execution" TO 'on'
 SET search_path TO 'public', 'pg_temp'
AS $function$
DECLARE
    -- read here: on a worker the session is the owner's, and begins at another time
    present timestamptz := now();
    caller name := session_user;
    named text[];
    known integer := 0;
    asked record;
    stored record;
    held text;
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'flows are archived under READ COMMITTED, where each statement sees what was committed before it'
            USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    IF coalesce(cardinality(flow_ids), 0) = 0 OR cardinality(flow_ids) <> cardinality(versions)
            OR cardinality(flow_ids) <> cardinality(heads)
            OR (SELECT count(DISTINCT given.flow_id) FROM unnest(flow_ids) AS given (flow_id))
                <> cardinality(flow_ids) THEN
        RAISE EXCEPTION 'flows are archived each once, with a version and a head'
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    -- one archive at a time: the numbers of the register are in the order of the commits
    PERFORM pg_advisory_xact_lock('archived_flows'::regclass::oid::integer, 0);

    -- a call whose reply was lost, and that is made again, finds what it did
    FOR asked IN
        SELECT given.* FROM unnest(flow_ids, versions, heads) AS given (flow_id, version, head)
    LOOP
        SELECT max(registered.archive_no) INTO archived_no
        FROM archived_flows AS registered
        WHERE registered.flow_id = asked.flow_id AND registered.version = asked.version
            AND registered.chain_hash = asked.head AND registered.bundle_sha256 = bundle
            AND NOT EXISTS (SELECT 1 FROM event_log AS event
                WHERE event.flow_id = asked.flow_id);
        IF archived_no IS NOT NULL THEN
            known := known + 1;
            archived_flow_id := asked.flow_id;
            RETURN NEXT;
        END IF;
    END LOOP;
    IF known = cardinality(flow_ids) THEN
        RETURN;
    ELSIF known > 0 THEN
        RAISE EXCEPTION 'some of the flows are archived already'
            USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;

    SELECT coalesce(array_agg(DISTINCT consumer.name ORDER BY consumer.name), '{}') INTO named
    FROM feed_consumers AS consumer;
    PERFORM count_leaving_flows(flow_ids);
    FOR asked IN
        SELECT given.* FROM unnest(flow_ids, versions, heads) AS given (flow_id, version, head)
        ORDER BY given.flow_id
    LOOP
        SELECT min(event.seq) AS first_seq, max(event.seq) AS last_seq,
            max(CASE WHEN event.version = asked.version - 1 AND event.chain_hash = asked.head
                    AND event.event_type = 'stepsignal'
                    AND event.payload ->> 'signal' = 'chem_persistence.sealed'
                THEN event.seq END) AS seal INTO stored
        FROM event_log AS event
        WHERE event.flow_id = asked.flow_id;
        IF stored.seal IS NULL THEN
            RAISE EXCEPTION 'flow % is not in the log with % events of which the last is this seal',
                    asked.flow_id, asked.version
                USING ERRCODE = 'object_not_in_prerequisite_state';
        END IF;
        SELECT consumer.name INTO held
        FROM feed_consumers AS consumer
        WHERE consumer.part = get_byte(sha256(uuid_send(asked.flow_id)), 0) % consumer.parts
            AND greatest(consumer.seq, consumer.passed_seq) < stored.seal
        ORDER BY consumer.name
        LIMIT 1;
        IF FOUND THEN
            RAISE EXCEPTION 'consumer % has not consumed flow % to its end', held, asked.flow_id
                USING ERRCODE = 'object_in_use';
        END IF;
        SELECT parked.name INTO held
        FROM feed_parked AS parked
        WHERE parked.flow_id = asked.flow_id
        ORDER BY parked.name
        LIMIT 1;
        IF FOUND THEN
            RAISE EXCEPTION 'consumer % has flow % parked', held, asked.flow_id
                USING ERRCODE = 'object_in_use';
        END IF;

        INSERT INTO archived_flows AS registered
            (flow_id, version, chain_hash, first_seq, last_seq, bundle_sha256, consumers,
                archived_at, actor, by_role, is_counted)
        VALUES (asked.flow_id, asked.version, asked.head, stored.first_seq, stored.last_seq, bundle,
            named, present, archive_flows.actor, caller,
            true)
        RETURNING registered.flow_id, registered.archive_no INTO archived_flow_id, archived_no;
        RETURN NEXT;

        DELETE FROM event_log AS event WHERE event.flow_id = asked.flow_id;
        DELETE FROM workflow_step_executions AS step WHERE step.flow_id = asked.flow_id;
        DELETE FROM flow_snapshots AS snapshot WHERE snapshot.flow_id = asked.flow_id;
        DELETE FROM flow_runs AS run WHERE run.flow_id = asked.flow_id;
        DELETE FROM imported_flows AS imported WHERE imported.flow_id = asked.flow_id;
        DELETE FROM resource_waits AS waits WHERE waits.flow_id = asked.flow_id;
    END LOOP;
END
$function$;

CREATE OR REPLACE FUNCTION call_flow_runs(flow_ids uuid[])
 RETURNS SETOF uuid
 LANGUAGE plpgsql
AS $function$
DECLARE
    present timestamptz := now();
    asked uuid;
BEGIN
    FOR asked IN
        SELECT DISTINCT wanted.flow_id FROM unnest(flow_ids) AS wanted (flow_id)
        ORDER BY wanted.flow_id
    LOOP
        UPDATE flow_runs AS run
        SET called = run.lease IS NOT NULL,
            due_at = CASE WHEN run.lease IS NULL THEN present ELSE run.due_at END
        WHERE run.flow_id = asked;
        IF FOUND THEN
            RETURN NEXT asked;
        END IF;
    END LOOP;
END
$function$;

CREATE OR REPLACE FUNCTION check_seq()
 RETURNS void
 LANGUAGE plpgsql
AS $function$
DECLARE
    spare constant bigint := 100000;
    wanted_seq bigint;
BEGIN
    IF pg_sequence_last_value('event_log_seq_checks'::regclass) IS NOT NULL THEN
        RETURN;
    END IF;
    wanted_seq := find_last_seq() + spare;
    WHILE pg_sequence_last_value('event_log_seq_checks'::regclass) IS NULL LOOP
        IF (SELECT max(nextval('event_log_seq_seq')) FROM generate_series(1, 1000)) >= wanted_seq
        THEN
            PERFORM nextval('event_log_seq_checks');
        END IF;
    END LOOP;
END
$function$;

CREATE OR REPLACE FUNCTION claim_flow_runs(definitions text[], worker uuid, token uuid, most integer, duration interval)
 RETURNS TABLE(claimed_flow_id uuid, claimed_definition_hash text)
 LANGUAGE plpgsql
AS $function$
DECLARE
    present timestamptz := now();
    candidates uuid[];
    candidate uuid;
BEGIN
    candidates := ARRAY(
        SELECT run.flow_id
        FROM flow_runs AS run
        WHERE run.definition_hash = ANY (definitions) AND run.due_at <= present
        ORDER BY run.due_at
        LIMIT 4 * most);
    -- a sample, since workers that ask at once would all try the same flows; in the order of their
    -- ids, since two claims that wait for each other's rows would deadlock otherwise
    FOR candidate IN
        SELECT sample.flow_id
        FROM (SELECT flow.id AS flow_id FROM unnest(candidates) AS flow (id)
            ORDER BY random() LIMIT most) AS sample
        ORDER BY sample.flow_id
    LOOP
        UPDATE flow_runs AS run
        SET lease = token, holder = worker, due_at = present + duration
        WHERE run.flow_id = candidate AND run.due_at <= present
        RETURNING run.flow_id, run.definition_hash
        INTO claimed_flow_id, claimed_definition_hash;
        IF claimed_flow_id IS NOT NULL THEN
            RETURN NEXT;
        END IF;
    END LOOP;
END
$function$;

CREATE OR REPLACE FUNCTION feed_end()
 RETURNS bigint
 LANGUAGE plpgsql
AS $function$
DECLARE
    sequence oid := 'event_log_seq_seq'::regclass;
    last_seq bigint;
    first_locked bigint;
    committed text[];
    unsettled bigint := 1;
    no_later timestamptz;
BEGIN
    IF pg_is_in_recovery() THEN
        RAISE EXCEPTION 'a standby does not know who is writing: read the feed from the primary'
            USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    -- in this order: an append with a number up to this one took its lock before the number, and
    -- still holds it or has ended
    last_seq := find_last_seq();
    -- a lock has 31 bits of the number; one that seems to be far behind was taken after the line
    -- above
    SELECT min(last_seq - held.behind) INTO first_locked
    FROM (SELECT (last_seq - locks.objid::bigint) & 2147483647 AS behind
            FROM pg_locks AS locks
            WHERE locks.locktype = 'advisory' AND locks.objsubid = 2 AND locks.classid = sequence
                AND locks.database = (SELECT own.oid FROM pg_database AS own
                    WHERE own.datname = current_database())) AS held
    WHERE held.behind < 1073741824;
    committed := ARRAY(SELECT recorded.gid FROM pg_dist_transaction AS recorded);
    no_later := clock_timestamp() + interval '5 s';
    WHILE committed <> '{}' AND unsettled > 0 LOOP
        SELECT count(*) INTO unsettled
        FROM run_command_on_workers($command$
            SELECT coalesce(jsonb_agg(prepared.gid), '[]') FROM pg_prepared_xacts AS prepared
            $command$) AS answer
        WHERE CASE WHEN answer.success THEN answer.result::jsonb ?| committed ELSE true END;
        IF unsettled > 0 AND clock_timestamp() > no_later THEN
            RAISE EXCEPTION 'a worker has not completed a transaction that is committed'
                USING ERRCODE = 'lock_not_available',
                    HINT = 'Citus completes it within citus.recover_2pc_interval.';
        END IF;
        PERFORM pg_sleep(CASE WHEN unsettled > 0 THEN 0.01 ELSE 0 END);
    END LOOP;
    RETURN coalesce(first_locked, last_seq);
END
$function$;

CREATE OR REPLACE FUNCTION find_last_seq()
 RETURNS bigint
 LANGUAGE plpgsql
AS $function$
DECLARE
    sequence oid := 'event_log_seq_seq'::regclass;
    checks oid := 'event_log_seq_checks'::regclass;
    no_later timestamptz;
    is_late boolean;
    count_writers text;
    writers bigint;
    logged_seq bigint;
BEGIN
    IF pg_sequence_last_value(checks) IS NULL THEN
        -- Every append asks for this comparison before it writes, so a lock for writing on a shard
        -- is of a transaction that a worker still commits or rolls back for the coordinator before
        -- its crash, by itself or, if it is prepared, when Citus recovers it. The wait is bounded:
        -- if the coordinator's host is gone, such a transaction lasts until TCP gives up.
        no_later := clock_timestamp() + least(interval '5 s',
            nullif(current_setting('statement_timeout'), '0')::interval / 2);
        count_writers := format($command$
            SELECT count(*)
            FROM pg_locks AS held
            JOIN pg_class AS shard ON shard.oid = held.relation
            WHERE held.mode = 'RowExclusiveLock'
                AND held.database = (SELECT own.oid FROM pg_database AS own
                    WHERE own.datname = current_database())
                AND shard.relname ~ '^event_log_[0-9]+$'
                AND shard.relnamespace = %L::regnamespace
            $command$, (SELECT relation.relnamespace::regnamespace FROM pg_class AS relation
                WHERE relation.oid = sequence));
        WHILE pg_sequence_last_value(checks) IS NULL LOOP
            SELECT count(*) INTO writers
            FROM run_command_on_workers(count_writers) AS answer
            WHERE answer.success AND answer.result <> '0';
            is_late := clock_timestamp() > no_later;
            IF writers = 0 OR is_late THEN
                SELECT max(log.seq) INTO logged_seq FROM event_log AS log;
                EXIT;
            END IF;
            PERFORM pg_sleep(0.05);
        END LOOP;
        IF pg_sequence_last_value(checks) IS NOT NULL THEN
            logged_seq := NULL;  -- another session has compared them meanwhile
        END IF;
    END IF;
    RETURN greatest(coalesce(pg_sequence_last_value(sequence), 0), logged_seq);
END
$function$;

CREATE OR REPLACE FUNCTION find_results(fingerprints text[], most integer)
 RETURNS TABLE(found_fingerprint text, found_flow_id uuid, found_version integer, found_outputs jsonb)
 LANGUAGE plpgsql
 STABLE
AS $function$
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
$function$;

CREATE OR REPLACE FUNCTION refuse_delete_of_live_artifacts()
 RETURNS trigger
 LANGUAGE plpgsql
 SET search_path TO 'public', 'pg_temp'
AS $function$
BEGIN
    RAISE EXCEPTION '% is append-only: % is refused', TG_TABLE_NAME, TG_OP
        USING ERRCODE = 'restrict_violation';
END
$function$;

CREATE OR REPLACE FUNCTION refuse_delete_of_live_chunks()
 RETURNS trigger
 LANGUAGE plpgsql
 SET search_path TO 'public', 'pg_temp'
AS $function$
BEGIN
    RAISE EXCEPTION '% is append-only: % is refused', TG_TABLE_NAME, TG_OP
        USING ERRCODE = 'restrict_violation';
END
$function$;

CREATE OR REPLACE FUNCTION refuse_delete_of_live_flows()
 RETURNS trigger
 LANGUAGE plpgsql
 SET search_path TO 'public', 'pg_temp'
AS $function$
DECLARE
    register text;
    is_refused boolean := true;
BEGIN
    SELECT format('%I.%I', TG_TABLE_SCHEMA, 'archived_flows_' || beside.shardid) INTO register
    FROM pg_catalog.pg_dist_shard AS own
    JOIN pg_catalog.pg_dist_shard AS beside ON beside.shardminvalue = own.shardminvalue
        AND beside.logicalrelid = to_regclass(format('%I.archived_flows', TG_TABLE_SCHEMA))
    WHERE own.shardid = substring(TG_TABLE_NAME FROM '[0-9]+$')::bigint
        AND own.logicalrelid = to_regclass(format('%I.event_log', TG_TABLE_SCHEMA));
    IF register IS NOT NULL THEN
        EXECUTE format($query$
            SELECT NOT EXISTS (SELECT 1 FROM gone) OR EXISTS (
                SELECT 1
                FROM (
                    SELECT event.flow_id, count(*) AS events, min(event.version) AS first,
                        max(event.version) AS last,
                        (array_agg(event.chain_hash ORDER BY event.version DESC))[1] AS head,
                        (array_agg(event.event_type = 'stepsignal'
                                AND event.payload ->> 'signal' = 'chem_persistence.sealed'
                            ORDER BY event.version DESC))[1] AS is_sealed
                    FROM gone AS event
                    GROUP BY event.flow_id
                ) AS deleted
                WHERE deleted.first <> 0 OR deleted.last <> deleted.events - 1
                    OR deleted.is_sealed IS NOT TRUE
                    OR NOT EXISTS (SELECT 1 FROM %1$s AS registered
                        WHERE registered.flow_id = deleted.flow_id
                            AND registered.version = deleted.events
                            AND registered.chain_hash = deleted.head)
                    OR EXISTS (SELECT 1 FROM %2$I.%3$I AS left_over
                        WHERE left_over.flow_id = deleted.flow_id))
            $query$, register, TG_TABLE_SCHEMA, TG_TABLE_NAME) INTO is_refused;
    END IF;
    IF is_refused THEN
        RAISE EXCEPTION '% is append-only: % is refused', TG_TABLE_NAME, TG_OP
            USING ERRCODE = 'restrict_violation',
                DETAIL = 'Only whole sealed flows that archived_flows names with their head can be deleted.';
    END IF;
    RETURN NULL;
END
$function$;

CREATE OR REPLACE FUNCTION refuse_delete_of_used_artifacts()
 RETURNS trigger
 LANGUAGE plpgsql
 SET search_path TO 'public', 'pg_temp'
AS $function$
BEGIN
    RAISE EXCEPTION '% is append-only: % is refused', TG_TABLE_NAME, TG_OP
        USING ERRCODE = 'restrict_violation';
END
$function$;

CREATE OR REPLACE FUNCTION release_flow_runs(flow_ids uuid[], tokens uuid[])
 RETURNS SETOF uuid
 LANGUAGE plpgsql
AS $function$
DECLARE
    present timestamptz := now();
    held record;
BEGIN
    FOR held IN
        SELECT wanted.flow_id, wanted.token FROM unnest(flow_ids, tokens) AS wanted (flow_id, token)
        ORDER BY wanted.flow_id
    LOOP
        UPDATE flow_runs AS run
        SET lease = NULL, holder = NULL, called = false, due_at = present
        WHERE run.flow_id = held.flow_id AND run.lease = held.token;
        IF FOUND THEN
            RETURN NEXT held.flow_id;
        END IF;
    END LOOP;
END
$function$;

CREATE OR REPLACE FUNCTION renew_flow_runs(flow_ids uuid[], tokens uuid[], duration interval)
 RETURNS TABLE(held_flow_id uuid, is_renewed boolean, is_called boolean)
 LANGUAGE plpgsql
AS $function$
DECLARE
    due timestamptz := now() + duration;
    held record;
BEGIN
    FOR held IN
        SELECT wanted.flow_id, wanted.token FROM unnest(flow_ids, tokens) AS wanted (flow_id, token)
        ORDER BY wanted.flow_id
    LOOP
        UPDATE flow_runs AS run SET due_at = due
        WHERE run.flow_id = held.flow_id AND run.lease = held.token
        RETURNING run.flow_id, true, run.called INTO held_flow_id, is_renewed, is_called;
        IF held_flow_id IS NOT NULL THEN
            RETURN NEXT;
        END IF;
    END LOOP;
END
$function$;

CREATE OR REPLACE FUNCTION use_artifacts(flows uuid[], hashes text[])
 RETURNS void
 LANGUAGE sql
AS $function$
$function$;
