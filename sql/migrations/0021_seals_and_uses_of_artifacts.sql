-- A flow can be sealed, which is its last event: no other follows it. A sealed flow may be archived
-- one day: a register keeps the ids and heads of archived flows, and the uses of artifacts tell
-- which ones other flows still need.
-- Each statement stands below a line that begins with "-- statement:"; they run one by one in one
-- transaction.

-- statement: the register: what was archived, in the order of archive_no, and the SHA-256 of the
-- bundle that has it. A flow that was imported again may be archived again
CREATE TABLE archived_flows (
    archive_no bigint GENERATED ALWAYS AS IDENTITY,
    flow_id uuid NOT NULL,
    version integer NOT NULL,
    chain_hash bytea NOT NULL,
    first_seq bigint NOT NULL,
    last_seq bigint NOT NULL,
    bundle_sha256 text NOT NULL,
    consumers text[] NOT NULL,
    archived_at timestamptz NOT NULL DEFAULT now(),
    actor text NOT NULL,
    by_role name NOT NULL DEFAULT session_user,
    CONSTRAINT archived_flows_pkey PRIMARY KEY (flow_id, archive_no),
    CONSTRAINT archived_flows_version_check CHECK (version >= 1),
    CONSTRAINT archived_flows_chain_hash_check CHECK (octet_length(chain_hash) = 32),
    CONSTRAINT archived_flows_bundle_check CHECK (bundle_sha256 ~ '^[0-9a-f]{64}$')
)

-- statement: what was archived last
CREATE INDEX archived_flows_no_idx ON archived_flows (archive_no)

-- statement: Citus accepts triggers on distributed tables only so; plain PostgreSQL has no such
-- setting and does not mind
SET LOCAL citus.enable_unsafe_triggers = on

-- statement: the register is a fact, too
CREATE TRIGGER archived_flows_append_only BEFORE UPDATE OR DELETE ON archived_flows
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change_of_history()

-- statement: nor do all of its rows go at once
CREATE TRIGGER archived_flows_no_truncate BEFORE TRUNCATE ON archived_flows
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change_of_history()

-- statement: which flows use an artifact that another one stored; what was stored before this table
-- was made has no rows. The key of the artifact is referenced, so that one that is used cannot be
-- deleted, and one that is being deleted cannot be used
CREATE TABLE workflow_step_artifact_uses (
    artifact_hash text NOT NULL,
    flow_id uuid NOT NULL,
    CONSTRAINT workflow_step_artifact_uses_pkey PRIMARY KEY (artifact_hash, flow_id)
)

-- statement: in a distributed log each flow has rows of its own, and this table stays empty
DO $$
BEGIN
    IF EXISTS (SELECT 1 FROM pg_constraint
            WHERE conrelid = 'workflow_step_artifacts'::regclass AND contype = 'p'
                AND pg_get_constraintdef(oid) = 'PRIMARY KEY (artifact_hash)') THEN
        ALTER TABLE workflow_step_artifact_uses
            ADD CONSTRAINT workflow_step_artifact_uses_artifact_fkey FOREIGN KEY (artifact_hash)
                REFERENCES workflow_step_artifacts (artifact_hash);
    END IF;
END
$$

-- statement: uses are facts, too
CREATE TRIGGER workflow_step_artifact_uses_append_only
    BEFORE UPDATE OR DELETE ON workflow_step_artifact_uses
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change_of_history()

-- statement: nor do all of them go at once
CREATE TRIGGER workflow_step_artifact_uses_no_truncate
    BEFORE TRUNCATE ON workflow_step_artifact_uses
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change_of_history()

-- statement: the uses of a flow
CREATE INDEX workflow_step_artifact_uses_flow_idx ON workflow_step_artifact_uses (flow_id)

-- statement: add the uses of artifacts by flows, pair by pair, except by the flow that stored one;
-- a hash that no artifact has is left out, and so are definitions, which stay
CREATE FUNCTION use_artifacts(flows uuid[], hashes text[]) RETURNS void LANGUAGE sql AS $$
    INSERT INTO workflow_step_artifact_uses (artifact_hash, flow_id)
    SELECT DISTINCT used.artifact_hash, used.flow_id
    FROM unnest(flows, hashes) AS used (flow_id, artifact_hash)
    JOIN workflow_step_artifacts AS stored ON stored.artifact_hash = used.artifact_hash
    WHERE stored.flow_id <> used.flow_id AND stored.kind NOT IN
        ('chem_persistence.FlowDefinition', 'chem_persistence.StepDefinition')
    ORDER BY used.artifact_hash, used.flow_id
    ON CONFLICT DO NOTHING
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
    with_reuse boolean := position('"reused_from"' IN events) > 0;
    with_more boolean := artifacts IS NOT NULL OR retries IS NOT NULL OR steps IS NOT NULL
        OR with_reuse;
    stored_events bigint := 0;
    stored_artifacts bigint;
    attempt integer := 0;
    stored_flow_ids uuid[] := '{}';
    effect text;
    begun uuid[] := '{}';
    ended uuid[] := '{}';
    has_seal boolean := false;
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
    -- planner expects; the flows are stored in the order of their ids, so that two batches cannot
    -- deadlock
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
            AND CASE WHEN e.first_version = 0
                THEN (SELECT gone.version FROM archived_flows AS gone
                        WHERE gone.flow_id = e.flow_id LIMIT 1) IS NULL
                    OR coalesce(current_setting('chem_persistence.import', true), '') = 'on'
                ELSE (SELECT previous.chain_hash FROM event_log AS previous
                    WHERE previous.flow_id = e.flow_id
                        AND previous.version = e.first_version - 1
                        AND (previous.event_type <> 'stepsignal'
                            OR previous.payload ->> 'signal' <> 'chem_persistence.sealed'))
                    = e.previous_hash END
            AND (e.lease IS NULL OR (e.holder IS NOT NULL AND e.first_version = 0)
                OR (SELECT run.lease FROM flow_runs AS run
                    WHERE run.flow_id = e.flow_id) = e.lease)
        ORDER BY e.flow_id, e.place
        RETURNING log.flow_id, log.version, log.seq,
            CASE WHEN log.event_type IN ('stepstarted', 'stepfinished',
                    'propertypreferenceassigned', 'branchcreated') THEN NULL
                WHEN log.event_type IN ('flowcompleted', 'flowcancelled') THEN 'end'
                WHEN log.event_type = 'stepsignal' THEN CASE log.payload ->> 'signal'
                    WHEN 'chem_persistence.sealed' THEN 'seal' ELSE 'signal' END
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
        ELSIF effect = 'seal' THEN
            ended := array_append(ended, stored_flow_id);
            has_seal := true;
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

    IF has_seal THEN
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
                            AND previous.chain_hash = coalesce(own.chain_hash, e.previous_hash)
                            AND (previous.event_type <> 'stepsignal'
                                OR previous.payload ->> 'signal' <> 'chem_persistence.sealed')))
                    AND (e.version > 0 OR NOT EXISTS (SELECT 1 FROM archived_flows AS gone
                        WHERE gone.flow_id = e.flow_id))
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
        LOOP
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
            EXIT WHEN stored_artifacts >= cardinality(artifact_payloads);
            -- fewer than the document has: others stored them before, and the flow uses these
            BEGIN
                INSERT INTO workflow_step_artifact_uses (artifact_hash, flow_id)
                SELECT DISTINCT a.artifact_hash, a.flow_id
                FROM json_to_recordset(artifacts::json) AS a (artifact_hash text, flow_id uuid)
                JOIN workflow_step_artifacts AS stored ON stored.artifact_hash = a.artifact_hash
                WHERE a.flow_id IN (SELECT unnest(stored_flow_ids))
                    AND stored.flow_id <> a.flow_id AND stored.kind NOT IN
                        ('chem_persistence.FlowDefinition', 'chem_persistence.StepDefinition')
                ORDER BY a.artifact_hash, a.flow_id
                ON CONFLICT DO NOTHING;
                EXIT WHEN NOT EXISTS (SELECT 1
                    FROM json_to_recordset(artifacts::json) AS a (artifact_hash text, flow_id uuid)
                    WHERE a.flow_id IN (SELECT unnest(stored_flow_ids))
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
        FROM json_to_recordset(events::json) AS e (flow_id uuid, payload jsonb)
        CROSS JOIN LATERAL jsonb_array_elements_text(e.payload -> 'outputs')
            AS output (hash)
        WHERE e.flow_id IN (SELECT unnest(stored_flow_ids)) AND e.payload ? 'reused_from'
            AND e.payload ->> 'type' = 'stepfinished';
        IF EXISTS (SELECT 1
                FROM json_to_recordset(events::json) AS e (flow_id uuid, payload jsonb)
                JOIN archived_flows AS gone
                    ON gone.flow_id = (e.payload #>> '{reused_from,flow_id}')::uuid
                CROSS JOIN LATERAL jsonb_array_elements_text(e.payload -> 'outputs')
                    AS output (hash)
                WHERE e.flow_id IN (SELECT unnest(stored_flow_ids))
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

-- statement: roles that may change the rows of flows, or read them, may add uses, or read them, and
-- read the register
DO $$
DECLARE
    given record;
BEGIN
    FOR given IN
        SELECT own.grantee, bool_or(own.privilege_type = 'INSERT') AS may_change
        FROM pg_class AS relation
        CROSS JOIN LATERAL aclexplode(relation.relacl) AS own
        WHERE relation.oid = 'flow_runs'::regclass AND own.grantee <> relation.relowner
            AND own.privilege_type IN ('SELECT', 'INSERT')
        GROUP BY own.grantee
    LOOP
        EXECUTE format('GRANT SELECT ON archived_flows TO %1$s;
                GRANT %2$s ON workflow_step_artifact_uses TO %1$s',
            CASE given.grantee WHEN 0 THEN 'PUBLIC' ELSE given.grantee::regrole::text END,
            CASE WHEN given.may_change THEN 'SELECT, INSERT' ELSE 'SELECT' END);
    END LOOP;
END
$$
