-- The schema that the migrations in sql/migrations make together,
-- as a live PostgreSQL (15 to 18) describes it.
-- Written by `make snapshot`; a test compares it with a live database.
-- Do not edit it: write a migration.

CREATE SEQUENCE event_log_seq_seq AS bigint
    START 1 INCREMENT 1 MINVALUE 1 MAXVALUE 9223372036854775807 CACHE 1 NO CYCLE;

CREATE DOMAIN event_type_name AS text
    CONSTRAINT event_type_name_check CHECK (VALUE = ANY ('{flowinitialized,stepstarted,stepfinished,stepfailed,stepsignal,propertypreferenceassigned,retryscheduled,branchcreated,userinteractionrequested,userinteractionprovided,flowcompleted,stepwaits,flowcancelled}'::text[]));

CREATE TABLE archived_flows (
    archive_no bigint NOT NULL GENERATED ALWAYS AS IDENTITY,
    flow_id uuid NOT NULL,
    version integer NOT NULL,
    chain_hash bytea NOT NULL,
    first_seq bigint NOT NULL,
    last_seq bigint NOT NULL,
    bundle_sha256 text NOT NULL,
    consumers text[] NOT NULL,
    archived_at timestamp with time zone NOT NULL DEFAULT now(),
    actor text NOT NULL,
    by_role name NOT NULL DEFAULT SESSION_USER,
    is_counted boolean NOT NULL DEFAULT false,
    CONSTRAINT archived_flows_pkey PRIMARY KEY (flow_id, archive_no),
    CONSTRAINT archived_flows_bundle_check CHECK (bundle_sha256 ~ '^[0-9a-f]{64}$'::text),
    CONSTRAINT archived_flows_chain_hash_check CHECK (octet_length(chain_hash) = 32),
    CONSTRAINT archived_flows_version_check CHECK (version >= 1)
);

CREATE TABLE artifact_statistics (
    key bytea NOT NULL,
    kind text NOT NULL,
    artifacts bigint NOT NULL,
    stored_bytes bigint NOT NULL,
    CONSTRAINT artifact_statistics_pkey PRIMARY KEY (key)
);

CREATE TABLE event_log (
    seq bigint NOT NULL DEFAULT nextval('event_log_seq_seq'::regclass),
    flow_id uuid NOT NULL,
    version integer NOT NULL,
    event_id uuid NOT NULL,
    ts timestamp with time zone NOT NULL,
    event_type text NOT NULL,
    payload jsonb NOT NULL,
    metadata jsonb NOT NULL,
    chain_hash bytea NOT NULL,
    CONSTRAINT event_log_pkey PRIMARY KEY (flow_id, seq),
    CONSTRAINT event_log_flow_version_key UNIQUE (flow_id, version),
    CONSTRAINT event_log_check CHECK (version >= 0 AND octet_length(chain_hash) = 32 AND jsonb_typeof(metadata) = 'object'::text AND NOT (payload ->> 'type'::text) IS DISTINCT FROM event_type::event_type_name::text)
);

CREATE TABLE failure_statistics (
    key bytea NOT NULL,
    definition_hash text,
    step_id text,
    error_class text,
    failures bigint NOT NULL,
    flows bigint NOT NULL,
    last_failed_at timestamp with time zone NOT NULL,
    CONSTRAINT failure_statistics_pkey PRIMARY KEY (key)
);

CREATE TABLE feed_consumers (
    name text NOT NULL,
    part integer NOT NULL,
    parts integer NOT NULL,
    seq bigint NOT NULL,
    flow_id uuid,
    link bytea,
    passed_seq bigint NOT NULL DEFAULT 0,
    until_seq bigint,
    next_parts integer,
    lease uuid,
    holder text,
    due_at timestamp with time zone NOT NULL DEFAULT '-infinity'::timestamp with time zone,
    tries integer NOT NULL DEFAULT 0,
    page integer NOT NULL DEFAULT 1000,
    error text,
    moved_at timestamp with time zone NOT NULL DEFAULT now(),
    CONSTRAINT feed_consumers_pkey PRIMARY KEY (name, part),
    CONSTRAINT feed_consumers_next_parts_check CHECK (next_parts >= 1 AND next_parts <= 256),
    CONSTRAINT feed_consumers_part_check CHECK (part >= 0 AND part <= (parts - 1)),
    CONSTRAINT feed_consumers_parts_check CHECK (parts >= 1 AND parts <= 256),
    CONSTRAINT feed_consumers_position_check CHECK ((seq = 0) = (flow_id IS NULL) AND (seq = 0) = (link IS NULL)),
    CONSTRAINT feed_consumers_until_check CHECK ((until_seq IS NULL) = (next_parts IS NULL))
) WITH (fillfactor=50);

CREATE TABLE feed_parked (
    name text NOT NULL,
    flow_id uuid NOT NULL,
    seq bigint NOT NULL,
    event_id uuid NOT NULL,
    error text NOT NULL,
    parked_at timestamp with time zone NOT NULL DEFAULT now(),
    is_released boolean NOT NULL DEFAULT false,
    CONSTRAINT feed_parked_pkey PRIMARY KEY (name, flow_id)
);

CREATE TABLE flow_runs (
    flow_id uuid NOT NULL,
    definition_hash text NOT NULL,
    due_at timestamp with time zone NOT NULL,
    lease uuid,
    holder uuid,
    called boolean NOT NULL DEFAULT false,
    by_program boolean NOT NULL DEFAULT false,
    CONSTRAINT flow_runs_pkey PRIMARY KEY (flow_id),
    CONSTRAINT flow_runs_called_check CHECK (lease IS NOT NULL OR NOT called),
    CONSTRAINT flow_runs_holder_check CHECK ((lease IS NULL) = (holder IS NULL))
) WITH (autovacuum_vacuum_scale_factor=0.02, autovacuum_vacuum_threshold=500, autovacuum_vacuum_cost_delay=0, autovacuum_analyze_scale_factor=0.1, autovacuum_analyze_threshold=500);

CREATE TABLE flow_snapshots (
    flow_id uuid NOT NULL,
    version integer NOT NULL,
    chain_hash bytea NOT NULL,
    definition_hash text NOT NULL,
    format integer NOT NULL,
    state bytea NOT NULL,
    state_hash bytea NOT NULL,
    created_at timestamp with time zone NOT NULL,
    CONSTRAINT flow_snapshots_pkey PRIMARY KEY (flow_id),
    CONSTRAINT flow_snapshots_chain_hash_check CHECK (octet_length(chain_hash) = 32),
    CONSTRAINT flow_snapshots_definition_hash_check CHECK (definition_hash ~ '^[0-9a-f]{64}$'::text),
    CONSTRAINT flow_snapshots_state_hash_check CHECK (octet_length(state_hash) = 32),
    CONSTRAINT flow_snapshots_version_check CHECK (version >= 1)
);

CREATE TABLE flow_workers (
    worker_id uuid NOT NULL,
    name text NOT NULL,
    definitions text[] NOT NULL,
    seen_at timestamp with time zone NOT NULL,
    CONSTRAINT flow_workers_pkey PRIMARY KEY (worker_id)
);

CREATE TABLE hourly_throughput (
    hour timestamp with time zone NOT NULL,
    events bigint NOT NULL,
    flows_started bigint NOT NULL,
    flows_completed bigint NOT NULL,
    flows_cancelled bigint NOT NULL,
    steps_finished bigint NOT NULL,
    steps_failed bigint NOT NULL,
    retries bigint NOT NULL,
    CONSTRAINT hourly_throughput_pkey PRIMARY KEY (hour)
);

CREATE TABLE imported_flows (
    flow_id uuid NOT NULL,
    imported_at timestamp with time zone NOT NULL DEFAULT now(),
    CONSTRAINT imported_flows_pkey PRIMARY KEY (flow_id)
);

CREATE TABLE resource_slots (
    resource text NOT NULL,
    slot integer NOT NULL,
    flow_id uuid,
    step_index bigint,
    is_leaving boolean NOT NULL DEFAULT false,
    CONSTRAINT resource_slots_pkey PRIMARY KEY (resource, slot),
    CONSTRAINT resource_slots_slot_check CHECK (slot >= 0),
    CONSTRAINT resource_slots_user_check CHECK ((flow_id IS NULL) = (step_index IS NULL))
);

CREATE TABLE resource_waits (
    resource text NOT NULL,
    flow_id uuid NOT NULL,
    step_index bigint NOT NULL,
    amount integer NOT NULL,
    since timestamp with time zone NOT NULL,
    asks_at timestamp with time zone NOT NULL,
    is_possible boolean NOT NULL,
    CONSTRAINT resource_waits_pkey PRIMARY KEY (flow_id, resource),
    CONSTRAINT resource_waits_amount_check CHECK (amount > 0)
);

CREATE TABLE schema_migrations (
    version integer NOT NULL,
    name text NOT NULL,
    checksum text NOT NULL,
    applied_at timestamp with time zone NOT NULL,
    CONSTRAINT schema_migrations_pkey PRIMARY KEY (version),
    CONSTRAINT schema_migrations_checksum_check CHECK (checksum ~ '^[0-9a-f]{64}$'::text)
);

CREATE TABLE statistics_refresh (
    refreshed boolean NOT NULL DEFAULT true,
    refreshed_at timestamp with time zone NOT NULL,
    seq bigint NOT NULL,
    CONSTRAINT statistics_refresh_pkey PRIMARY KEY (refreshed),
    CONSTRAINT statistics_refresh_check CHECK (refreshed)
);

CREATE TABLE step_durations (
    key bytea NOT NULL,
    bucket integer NOT NULL,
    finished bigint NOT NULL,
    microseconds numeric NOT NULL,
    shortest bigint NOT NULL,
    longest bigint NOT NULL,
    CONSTRAINT step_durations_pkey PRIMARY KEY (key, bucket)
);

CREATE TABLE step_statistics (
    key bytea NOT NULL,
    definition_hash text,
    step_id text NOT NULL,
    executions bigint NOT NULL,
    finished bigint NOT NULL,
    attempts bigint NOT NULL,
    failures bigint NOT NULL,
    retries bigint NOT NULL,
    failure_rate double precision GENERATED ALWAYS AS (((failures)::double precision / (NULLIF(attempts, 0))::double precision)) STORED,
    mean_seconds double precision,
    p50_seconds double precision,
    p90_seconds double precision,
    p99_seconds double precision,
    longest_seconds double precision,
    CONSTRAINT step_statistics_pkey PRIMARY KEY (key)
);

CREATE TABLE workflow_step_artifact_chunks (
    upload_id uuid NOT NULL,
    chunk_no integer NOT NULL,
    content bytea NOT NULL,
    CONSTRAINT workflow_step_artifact_chunks_pkey PRIMARY KEY (upload_id, chunk_no),
    CONSTRAINT workflow_step_artifact_chunks_chunk_no_check CHECK (chunk_no >= 0),
    CONSTRAINT workflow_step_artifact_chunks_content_check CHECK (octet_length(content) >= 1 AND octet_length(content) <= 1048576)
);

CREATE TABLE workflow_step_artifact_uses (
    artifact_hash text NOT NULL,
    flow_id uuid NOT NULL,
    CONSTRAINT workflow_step_artifact_uses_pkey PRIMARY KEY (artifact_hash, flow_id)
);

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
    CONSTRAINT workflow_step_artifacts_pkey PRIMARY KEY (artifact_hash),
    CONSTRAINT workflow_step_artifacts_body_check CHECK (num_nonnulls(payload, content, upload_id) = 1),
    CONSTRAINT workflow_step_artifacts_content_is_payload_check CHECK (content IS NOT NULL OR NOT content_is_payload),
    CONSTRAINT workflow_step_artifacts_content_size_check CHECK (num_nonnulls(upload_id, content_size) <> 1 AND content_size >= 0),
    CONSTRAINT workflow_step_artifacts_hash_check CHECK (artifact_hash ~ '^[0-9a-f]{64}$'::text),
    CONSTRAINT workflow_step_artifacts_metadata_check CHECK (jsonb_typeof(metadata) = 'object'::text)
);

CREATE TABLE workflow_step_executions (
    flow_id uuid NOT NULL,
    step_index bigint NOT NULL,
    step_id text NOT NULL,
    status text NOT NULL,
    attempts integer NOT NULL,
    retry_count bigint NOT NULL,
    fingerprint text,
    started_at timestamp with time zone,
    finished_at timestamp with time zone,
    error jsonb,
    CONSTRAINT workflow_step_executions_pkey PRIMARY KEY (flow_id, step_index),
    CONSTRAINT workflow_step_executions_status_check CHECK (status = ANY ('{pending,running,waiting,finished,failed,awaiting_user_input}'::text[]))
) WITH (fillfactor=50);

ALTER SEQUENCE event_log_seq_seq OWNED BY event_log.seq;

ALTER TABLE flow_snapshots ALTER COLUMN state SET STORAGE EXTERNAL;

ALTER TABLE workflow_step_artifact_uses ADD CONSTRAINT workflow_step_artifact_uses_artifact_fkey
    FOREIGN KEY (artifact_hash) REFERENCES workflow_step_artifacts(artifact_hash);

CREATE VIEW flows AS
 SELECT first_event.flow_id,
    first_event.ts AS started_at,
    ( SELECT event.ts
           FROM event_log event
          WHERE event.flow_id = first_event.flow_id
          ORDER BY event.version DESC
         LIMIT 1) AS last_event_at,
    ( SELECT max(event.version) + 1
           FROM event_log event
          WHERE event.flow_id = first_event.flow_id) AS version,
    beginning.definition_hash,
    beginning.step_count,
    ( SELECT count(*) FILTER (WHERE step.status = 'finished'::text) AS count
           FROM workflow_step_executions step
          WHERE step.flow_id = first_event.flow_id) AS finished_steps,
        CASE
            WHEN (( SELECT count(*) AS count
               FROM event_log event
              WHERE event.flow_id = first_event.flow_id AND event.event_type = 'flowcompleted'::text)) > 0 THEN 'completed'::text
            WHEN (( SELECT count(*) AS count
               FROM event_log event
              WHERE event.flow_id = first_event.flow_id AND event.event_type = 'flowcancelled'::text)) > 0 THEN 'cancelled'::text
            ELSE ( SELECT
                    CASE
                        WHEN count(*) FILTER (WHERE step.status = 'failed'::text) > 0 THEN 'failed'::text
                        WHEN count(*) FILTER (WHERE step.status = 'awaiting_user_input'::text) > 0 THEN 'awaiting_user_input'::text
                        WHEN count(*) FILTER (WHERE step.status = 'waiting'::text) > 0 THEN 'waiting'::text
                        WHEN count(*) > 0 THEN 'running'::text
                        ELSE 'pending'::text
                    END AS "case"
               FROM workflow_step_executions step
              WHERE step.flow_id = first_event.flow_id)
        END AS state,
    ( SELECT count(*) FILTER (WHERE step.finished_so_far = (step.step_index + 1)) AS count
           FROM ( SELECT execution.step_index,
                    count(*) FILTER (WHERE execution.status = 'finished'::text) OVER (PARTITION BY execution.flow_id ORDER BY execution.step_index) AS finished_so_far
                   FROM workflow_step_executions execution
                  WHERE execution.flow_id = first_event.flow_id) step) AS cursor,
    ( SELECT max(step.step_id) FILTER (WHERE step.status <> 'finished'::text AND step.finished_so_far = step.step_index) AS max
           FROM ( SELECT execution.step_index,
                    execution.step_id,
                    execution.status,
                    count(*) FILTER (WHERE execution.status = 'finished'::text) OVER (PARTITION BY execution.flow_id ORDER BY execution.step_index) AS finished_so_far
                   FROM workflow_step_executions execution
                  WHERE execution.flow_id = first_event.flow_id) step) AS current_step,
    ( SELECT step.error
           FROM workflow_step_executions step
          WHERE step.flow_id = first_event.flow_id AND step.status = 'failed'::text
          ORDER BY step.step_index DESC
         LIMIT 1) AS failure,
    beginning.name,
    beginning.label,
    beginning.parent
   FROM event_log first_event
     CROSS JOIN LATERAL ( SELECT first_event.payload ->> 'definition_hash'::text AS definition_hash,
            (first_event.payload ->> 'step_count'::text)::bigint AS step_count,
            first_event.payload ->> 'name'::text AS name,
            first_event.payload ->> 'label'::text AS label,
            first_event.payload -> 'parent'::text AS parent) beginning
  WHERE first_event.version = 0;

CREATE VIEW step_execution_errors AS
 SELECT failure.flow_id,
    failure.version,
    failure.seq,
    (failure.payload ->> 'step_index'::text)::bigint AS step_index,
    failure.payload ->> 'step_id'::text AS step_id,
    attempts.started AS attempt,
    failure.ts AS failed_at,
    failure.payload ->> 'fingerprint'::text AS fingerprint,
    failure.payload -> 'error'::text AS error
   FROM event_log failure
     CROSS JOIN LATERAL ( SELECT count(*) AS started
           FROM event_log event
          WHERE event.flow_id = failure.flow_id AND event.version < failure.version AND event.event_type = 'stepstarted'::text AND (event.payload -> 'step_index'::text) = (failure.payload -> 'step_index'::text)) attempts
  WHERE failure.event_type = 'stepfailed'::text;

CREATE INDEX archived_flows_no_idx ON archived_flows USING btree (archive_no);

CREATE INDEX event_log_completed_idx ON event_log USING btree (flow_id) WHERE event_type = 'flowcompleted'::text;

CREATE INDEX event_log_definition_idx ON event_log USING btree (hashtextextended(payload ->> 'definition_hash'::text, 0::bigint), num_nulls(payload -> 'parent'::text), ts, flow_id) WHERE version = 0;

CREATE INDEX event_log_fingerprint_idx ON event_log USING btree (hashtextextended(payload ->> 'fingerprint'::text, 0::bigint)) WHERE event_type = 'stepfinished'::text AND NOT payload ? 'reused_from'::text;

CREATE INDEX event_log_first_event_idx ON event_log USING btree (ts, flow_id) WHERE version = 0;

CREATE INDEX event_log_given_id_idx ON event_log USING btree (event_id) WHERE NOT (get_byte(uuid_send(event_id), 15) = 0 AND (get_byte(uuid_send(event_id), 14) & 3) = 0 AND (get_byte(uuid_send(event_id), 6) >> 4) = 7);

CREATE INDEX event_log_halt_idx ON event_log USING btree (event_type, flow_id) WHERE event_type = ANY (ARRAY['stepwaits'::text, 'flowcancelled'::text]);

CREATE INDEX event_log_input_idx ON event_log USING btree (hashtextextended(COALESCE(payload #>> '{outputs,0}'::text[], payload ->> 'input'::text), 0::bigint)) WHERE event_type = ANY (ARRAY['stepfinished'::text, 'flowinitialized'::text]);

CREATE INDEX event_log_label_idx ON event_log USING btree ((payload ->> 'label'::text) COLLATE "C", ts, flow_id) WHERE version = 0 AND payload ? 'label'::text;

CREATE INDEX event_log_name_idx ON event_log USING btree (hashtextextended(payload ->> 'name'::text, 0::bigint), ts, flow_id) WHERE version = 0 AND payload ? 'name'::text;

CREATE INDEX event_log_origin_idx ON event_log USING btree (COALESCE(payload #>> '{reused_from,flow_id}'::text[], flow_id::text)) WHERE event_type = 'stepfinished'::text AND payload ? 'reused_from'::text OR event_type = 'stepsignal'::text AND (payload ->> 'signal'::text) = 'chem_persistence.invalidated'::text;

CREATE INDEX event_log_outputs_idx ON event_log USING gin ((payload -> 'outputs'::text) jsonb_path_ops) WHERE event_type = 'stepfinished'::text AND (payload #> '{outputs,1}'::text[]) IS NOT NULL;

CREATE INDEX event_log_raw_idx ON event_log USING btree (flow_id) WHERE version = 0 AND NOT payload ? 'due'::text AND NOT metadata ? 'chem_persistence.run_by'::text;

CREATE INDEX event_log_root_idx ON event_log USING btree (ts, flow_id) WHERE version = 0 AND (payload -> 'parent'::text) IS NULL;

CREATE INDEX event_log_seq_idx ON event_log USING btree (seq);

CREATE INDEX event_log_setback_idx ON event_log USING btree (event_type, seq, flow_id) WHERE event_type = ANY (ARRAY['stepfailed'::text, 'retryscheduled'::text, 'userinteractionrequested'::text]);

CREATE INDEX flow_runs_due_idx ON flow_runs USING btree (definition_hash, due_at);

CREATE INDEX resource_waits_since_idx ON resource_waits USING btree (resource, since, flow_id);

CREATE INDEX workflow_step_artifact_uses_flow_idx ON workflow_step_artifact_uses USING btree (flow_id);

CREATE INDEX workflow_step_artifacts_flow_idx ON workflow_step_artifacts USING btree (flow_id, produced_in_seq);

CREATE INDEX workflow_step_artifacts_upload_idx ON workflow_step_artifacts USING btree (upload_id) WHERE upload_id IS NOT NULL;

CREATE INDEX workflow_step_executions_error_idx ON workflow_step_executions USING btree (hashtextextended("substring"(error ->> 'error_class'::text, '[^.]*$'::text), 0::bigint), flow_id) WHERE error IS NOT NULL;

CREATE TYPE append_artifact AS (
    flow_id uuid,
    version integer,
    content_is_payload boolean,
    artifact_hash text,
    kind text,
    media_type text,
    metadata jsonb,
    payload jsonb,
    content bytea
);

CREATE TYPE append_event AS (
    flow_id uuid,
    version integer,
    event_id uuid,
    ts timestamp with time zone,
    chain_hash bytea,
    payload jsonb,
    metadata jsonb
);

CREATE TYPE append_flow AS (
    flow_id uuid,
    first_version integer,
    previous_hash bytea,
    lease uuid,
    holder uuid,
    seconds double precision,
    keeps boolean
);

CREATE TYPE append_retry AS (
    flow_id uuid,
    retry_count bigint,
    step_id text
);

CREATE TYPE append_step AS (
    flow_id uuid,
    step_index bigint,
    attempts integer,
    step_id text,
    status text,
    retry_count bigint,
    fingerprint text,
    started_at timestamp with time zone,
    finished_at timestamp with time zone,
    error jsonb
);

CREATE OR REPLACE FUNCTION add_flow_runs(most integer)
 RETURNS bigint
 LANGUAGE plpgsql
AS $function$
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
        IF NOT EXISTS (SELECT 1 FROM imported_flows AS imported WHERE imported.flow_id = added) THEN
            PERFORM change_flow_run(added, 0, false, true);
        END IF;
        rows := rows + 1;
    END LOOP;
    RETURN rows;
END
$function$;

CREATE OR REPLACE FUNCTION append_events(events text, artifacts text, artifact_payloads text[], artifact_contents bytea[], retries text, steps text, patience text)
 RETURNS TABLE(stored_flow_id uuid, stored_version integer, stored_seq bigint)
 LANGUAGE plpgsql
AS $function$
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
$function$;

CREATE OR REPLACE FUNCTION append_one(flow uuid, place integer, previous bytea, token uuid, keeps boolean, event uuid, at timestamp with time zone, link bytea, fact jsonb, context jsonb, step bigint, step_name text, print text, effect text, patience text)
 RETURNS bigint
 LANGUAGE plpgsql
AS $function$
DECLARE
    sequence oid := 'event_log_seq_seq'::regclass;
    head bytea := previous;
    stored bigint;
    done text;
BEGIN
    -- A condition or an assignment is prepared anew in each transaction, for a hundredth of the whole
    -- cost: so there are few, and short ones. PERFORM and an expression with a table would be queries.
    IF pg_my_temp_schema() = 0 THEN  -- no temporary table can hide one of the log's
        IF patience IS NULL THEN
            NULL;
        ELSIF current_setting('lock_timeout') = '0' THEN
            done := set_config('lock_timeout', patience, true);
        ELSIF patience::interval < current_setting('lock_timeout')::interval THEN
            done := set_config('lock_timeout', patience, true);
        END IF;
        -- as in append_rows
        IF coalesce(current_setting('chem_persistence.feed_lock', true), '') <> sequence::text THEN
            done := pg_advisory_xact_lock_shared(
                sequence::integer,
                (coalesce(pg_sequence_last_value(sequence), 0) & 2147483647)::integer);
            done := set_config('chem_persistence.feed_lock', sequence::text, true);
        END IF;
        IF token IS NOT NULL THEN  -- the event of a worker that does not hold the flow follows none
            SELECT previous INTO head
            FROM flow_runs AS run
            WHERE run.flow_id = flow AND run.lease = token;
        END IF;
        INSERT INTO event_log AS log
            (flow_id, version, event_id, ts, event_type, payload, metadata, chain_hash)
        SELECT flow, place, event, at, fact ->> 'type', fact, context, link
        WHERE (SELECT CASE WHEN last.version = place - 1
                        AND (last.event_type <> 'stepsignal'
                            OR last.payload ->> 'signal' <> 'chem_persistence.sealed')
                    THEN last.chain_hash END
                FROM event_log AS last
                WHERE last.flow_id = flow AND last.version >= place - 1
                ORDER BY last.version DESC LIMIT 1) = head
        RETURNING log.seq INTO stored;
    END IF;

    IF stored IS NULL THEN  -- append_rows says why, or stores it after all
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
    END IF;

    IF step IS NULL THEN
        NULL;
    ELSIF print IS NULL THEN
        INSERT INTO workflow_step_executions AS own
            (flow_id, step_index, step_id, status, attempts, retry_count, started_at)
        VALUES (flow, step, step_name, 'running', 1, 0, at)
        ON CONFLICT (flow_id, step_index) DO UPDATE SET
            status = excluded.status,
            attempts = own.attempts + 1,
            started_at = excluded.started_at;
    ELSE
        INSERT INTO workflow_step_executions AS own
            (flow_id, step_index, step_id, status, attempts, retry_count, fingerprint, finished_at)
        VALUES (flow, step, step_name, 'finished', 0, 0, print, at)
        ON CONFLICT (flow_id, step_index) DO UPDATE SET
            status = excluded.status,
            fingerprint = excluded.fingerprint,
            finished_at = excluded.finished_at;
    END IF;

    -- last, since other writers wait for the row that this locks
    IF effect IS NULL THEN
        NULL;
    ELSIF effect = 'end' THEN
        DELETE FROM flow_runs AS run WHERE run.flow_id = flow;
    ELSIF token IS NULL THEN
        -- also for a flow without a row, which is nobody's, or about to get one: the lock of the UPDATE
        -- in it makes add_flow_runs wait for the commit, and see this event
        PERFORM change_flow_run(flow, NULL, false, false);
    END IF;
    RETURN stored;
END
$function$;

CREATE OR REPLACE FUNCTION append_rows(flows append_flow[], events append_event[], artifacts append_artifact[], retries append_retry[], steps append_step[], patience text)
 RETURNS bigint[]
 LANGUAGE plpgsql
AS $function$
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
$function$;

CREATE OR REPLACE FUNCTION archive_flows(flow_ids uuid[], versions integer[], heads bytea[], bundle text, actor text)
 RETURNS TABLE(archived_flow_id uuid, archived_no bigint)
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'public', 'pg_temp'
 SET plan_cache_mode TO 'force_generic_plan'
AS $function$
DECLARE
    named text[];
    released text[];
    uploads uuid[];
    known bigint;
    held record;
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'flows are archived under READ COMMITTED, where each statement sees what was committed before it'
            USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    IF coalesce(cardinality(flow_ids), 0) = 0 OR cardinality(flow_ids) <> cardinality(versions)
            OR cardinality(flow_ids) <> cardinality(heads)
            OR (SELECT count(DISTINCT asked.flow_id) FROM unnest(flow_ids) AS asked (flow_id))
                <> cardinality(flow_ids) THEN
        RAISE EXCEPTION 'flows are archived each once, with a version and a head'
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    -- one archive at a time: the numbers of the register are in the order of the commits
    PERFORM pg_advisory_xact_lock('archived_flows'::regclass::oid::integer, 0);

    -- a call whose reply was lost, and that is made again, finds what it did
    RETURN QUERY
    SELECT registered.flow_id, max(registered.archive_no)
    FROM unnest(flow_ids, versions, heads) AS asked (flow_id, version, head)
    JOIN archived_flows AS registered ON registered.flow_id = asked.flow_id
        AND registered.version = asked.version AND registered.chain_hash = asked.head
        AND registered.bundle_sha256 = bundle
    WHERE NOT EXISTS (SELECT 1 FROM event_log AS event WHERE event.flow_id = ANY (flow_ids))
    GROUP BY registered.flow_id;
    GET DIAGNOSTICS known = ROW_COUNT;
    IF known = cardinality(flow_ids) THEN
        RETURN;
    ELSIF known > 0 THEN
        RAISE EXCEPTION 'some of the flows are archived already'
            USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;

    SELECT asked.flow_id, asked.version INTO held
    FROM unnest(flow_ids, versions, heads) AS asked (flow_id, version, head)
    WHERE NOT EXISTS (SELECT 1 FROM event_log AS seal
        WHERE seal.flow_id = asked.flow_id AND seal.version = asked.version - 1
            AND seal.chain_hash = asked.head AND seal.event_type = 'stepsignal'
            AND seal.payload ->> 'signal' = 'chem_persistence.sealed')
    ORDER BY asked.flow_id
    LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'flow % is not in the log with % events of which the last is this seal',
                held.flow_id, held.version
            USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    SELECT consumer.name, asked.flow_id INTO held
    FROM unnest(flow_ids, versions) AS asked (flow_id, version)
    JOIN event_log AS seal ON seal.flow_id = asked.flow_id AND seal.version = asked.version - 1
    JOIN feed_consumers AS consumer
        ON consumer.part = get_byte(sha256(uuid_send(asked.flow_id)), 0) % consumer.parts
    WHERE greatest(consumer.seq, consumer.passed_seq) < seal.seq
    ORDER BY consumer.name, asked.flow_id
    LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'consumer % has not consumed flow % to its end', held.name, held.flow_id
            USING ERRCODE = 'object_in_use';
    END IF;
    SELECT parked.name, parked.flow_id INTO held
    FROM feed_parked AS parked
    WHERE parked.flow_id = ANY (flow_ids)
    ORDER BY parked.name, parked.flow_id
    LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'consumer % has flow % parked', held.name, held.flow_id
            USING ERRCODE = 'object_in_use';
    END IF;

    PERFORM count_leaving_flows(flow_ids);

    SELECT coalesce(array_agg(DISTINCT consumer.name ORDER BY consumer.name), '{}') INTO named
    FROM feed_consumers AS consumer;
    RETURN QUERY
    INSERT INTO archived_flows AS registered
        (flow_id, version, chain_hash, first_seq, last_seq, bundle_sha256, consumers, actor,
            is_counted)
    SELECT asked.flow_id, asked.version, asked.head,
        (SELECT min(event.seq) FROM event_log AS event WHERE event.flow_id = asked.flow_id),
        (SELECT max(event.seq) FROM event_log AS event WHERE event.flow_id = asked.flow_id),
        bundle, named, archive_flows.actor, true
    FROM unnest(flow_ids, versions, heads) AS asked (flow_id, version, head)
    ORDER BY asked.flow_id
    RETURNING registered.flow_id, registered.archive_no;

    DELETE FROM event_log AS event WHERE event.flow_id = ANY (flow_ids);
    DELETE FROM workflow_step_executions AS step WHERE step.flow_id = ANY (flow_ids);
    DELETE FROM flow_snapshots AS snapshot WHERE snapshot.flow_id = ANY (flow_ids);
    DELETE FROM flow_runs AS run WHERE run.flow_id = ANY (flow_ids);
    DELETE FROM imported_flows AS imported WHERE imported.flow_id = ANY (flow_ids);
    DELETE FROM resource_waits AS waits WHERE waits.flow_id = ANY (flow_ids);
    released := ARRAY(
        SELECT used.artifact_hash
        FROM workflow_step_artifact_uses AS used
        WHERE used.flow_id = ANY (flow_ids));
    IF released <> '{}' THEN
        DELETE FROM workflow_step_artifact_uses AS used WHERE used.flow_id = ANY (flow_ids);
    END IF;

    -- the artifacts of these flows, and those of flows that were archived before, which these used:
    -- from here on those who want to use one wait, in the order of the hashes as appends lock them,
    -- and those who use one are seen by the next statement
    released := ARRAY(
        SELECT artifact.artifact_hash
        FROM (
            SELECT own.artifact_hash, own.flow_id, own.has_all_uses, own.kind
            FROM workflow_step_artifacts AS own
            WHERE own.flow_id = ANY (flow_ids) OR own.artifact_hash = ANY (released)
            ORDER BY own.artifact_hash
            FOR UPDATE
        ) AS artifact
        WHERE artifact.has_all_uses AND artifact.kind NOT IN
                ('chem_persistence.FlowDefinition', 'chem_persistence.StepDefinition')
            AND NOT EXISTS (SELECT 1 FROM event_log AS event
                WHERE event.flow_id = artifact.flow_id));
    released := ARRAY(
        SELECT unnest(released)
        EXCEPT
        SELECT used.artifact_hash
        FROM workflow_step_artifact_uses AS used
        WHERE used.artifact_hash = ANY (released));
    IF released <> '{}' THEN
        uploads := ARRAY(
            SELECT artifact.upload_id
            FROM workflow_step_artifacts AS artifact
            WHERE artifact.artifact_hash = ANY (released) AND artifact.upload_id IS NOT NULL);
        DELETE FROM workflow_step_artifacts AS artifact WHERE artifact.artifact_hash = ANY (released);
        -- a content may be empty
        IF EXISTS (SELECT 1 FROM workflow_step_artifact_chunks AS chunk
                WHERE chunk.upload_id = ANY (uploads)) THEN
            DELETE FROM workflow_step_artifact_chunks AS chunk
            WHERE chunk.upload_id = ANY (uploads);
        END IF;
    END IF;
END
$function$;

CREATE OR REPLACE FUNCTION call_flow_runs(flow_ids uuid[])
 RETURNS SETOF uuid
 LANGUAGE plpgsql
AS $function$
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
$function$;

CREATE OR REPLACE FUNCTION change_flow_run(flow uuid, since integer, is_leased boolean, is_rebuilt boolean)
 RETURNS boolean
 LANGUAGE plpgsql
AS $function$
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
$function$;

CREATE OR REPLACE FUNCTION claim_flow_runs(definitions text[], worker uuid, token uuid, most integer, duration interval)
 RETURNS TABLE(claimed_flow_id uuid, claimed_definition_hash text)
 LANGUAGE plpgsql
 SET plan_cache_mode TO 'force_generic_plan'
 SET enable_seqscan TO 'off'
 SET enable_bitmapscan TO 'off'
AS $function$
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
$function$;

CREATE OR REPLACE FUNCTION count_events(after bigint, upto bigint, flows uuid[])
 RETURNS void
 LANGUAGE plpgsql
 SET enable_seqscan TO 'off'
 SET jit TO 'off'
AS $function$
DECLARE
    touched uuid[];
    begun uuid[];
    counted uuid[];
    steps jsonb;
    durations jsonb;
    failures jsonb;
    hours jsonb;
    artifacts jsonb;
    uploads uuid[];
    chunks jsonb;
    keys bytea[];
BEGIN
    SELECT array_agg(flow.flow_id), array_agg(flow.flow_id) FILTER (WHERE flow.first > 0)
    INTO touched, begun
    FROM (
        SELECT event.flow_id, min(event.version) AS first
        FROM event_log AS event
        WHERE event.seq > after AND event.seq <= upto AND flows IS NULL
        GROUP BY event.flow_id
        UNION ALL
        SELECT event.flow_id, min(event.version) AS first
        FROM event_log AS event
        WHERE event.flow_id = ANY (flows) AND event.seq > after
        GROUP BY event.flow_id
    ) AS flow;
    IF touched IS NULL THEN
        RETURN;
    END IF;
    -- a flow that was imported after its archive was counted before it
    counted := ARRAY(
        SELECT gone.flow_id
        FROM archived_flows AS gone
        WHERE gone.flow_id = ANY (touched) AND gone.is_counted);

    -- the new events, and what earlier ones of the same flows say about their steps
    WITH event AS MATERIALIZED (
        SELECT event.flow_id, event.version, event.ts, event.event_type, true AS is_new,
            CASE WHEN event.version = 0 THEN event.payload ->> 'definition_hash' END
                AS definition_hash,
            CASE WHEN event.event_type <> 'stepsignal' THEN event.payload ->> 'step_index' END
                AS step_index,
            CASE WHEN event.event_type <> 'stepsignal' THEN event.payload ->> 'step_id' END
                AS step_id,
            CASE WHEN event.event_type = 'stepfailed'
                THEN event.payload #>> '{error,error_class}' END AS error_class
        FROM event_log AS event
        WHERE event.seq > after AND event.seq <= upto AND flows IS NULL
            AND event.flow_id <> ALL (counted)
        UNION ALL
        SELECT event.flow_id, event.version, event.ts, event.event_type, true AS is_new,
            CASE WHEN event.version = 0 THEN event.payload ->> 'definition_hash' END,
            CASE WHEN event.event_type <> 'stepsignal' THEN event.payload ->> 'step_index' END,
            CASE WHEN event.event_type <> 'stepsignal' THEN event.payload ->> 'step_id' END,
            CASE WHEN event.event_type = 'stepfailed'
                THEN event.payload #>> '{error,error_class}' END
        FROM event_log AS event
        WHERE event.flow_id = ANY (flows) AND event.seq > after
            AND event.flow_id <> ALL (counted)
        UNION ALL
        SELECT event.flow_id, event.version, event.ts, event.event_type, false AS is_new,
            CASE WHEN event.version = 0 THEN event.payload ->> 'definition_hash' END,
            event.payload ->> 'step_index',
            event.payload ->> 'step_id',
            CASE WHEN event.event_type = 'stepfailed'
                THEN event.payload #>> '{error,error_class}' END
        FROM event_log AS event
        WHERE event.flow_id = ANY (begun) AND event.seq <= after
            AND event.flow_id <> ALL (counted)
            AND (event.version = 0 OR event.event_type IN ('stepstarted', 'stepfinished',
                'stepfailed', 'stepwaits', 'userinteractionrequested', 'userinteractionprovided'))
    ),
    flow AS MATERIALIZED (
        SELECT event.flow_id, event.definition_hash
        FROM event
        WHERE event.version = 0
    ),
    -- executions are steps that an event of their flow names for the first time; started is the
    -- version and the time of the last start before
    step AS MATERIALIZED (
        SELECT event.is_new, event.event_type, event.step_id, event.error_class, event.ts,
            coalesce(flow.definition_hash, '') AS definition_hash,
            event.event_type <> 'retryscheduled' AND count(*) OVER same_step = 1 AS is_first,
            count(*) OVER same_failure = 1 AS is_first_failure,
            CASE WHEN isfinite(event.ts) THEN extract(epoch FROM event.ts) END
                - (max(ARRAY[event.version,
                        CASE WHEN isfinite(event.ts) THEN extract(epoch FROM event.ts) END])
                    FILTER (WHERE event.event_type = 'stepstarted') OVER same_step)[2] AS seconds
        FROM event
        JOIN flow ON flow.flow_id = event.flow_id
        WHERE event.event_type IN ('stepstarted', 'stepfinished', 'stepfailed', 'stepwaits',
            'userinteractionrequested', 'userinteractionprovided', 'retryscheduled')
        WINDOW same_step AS (PARTITION BY event.flow_id, event.step_index ORDER BY event.version),
            same_failure AS (PARTITION BY event.flow_id, event.event_type, event.step_id,
                event.error_class ORDER BY event.version)
    ),
    finished AS MATERIALIZED (
        SELECT timed.definition_hash, timed.step_id, timed.microseconds,
            CASE WHEN timed.microseconds > 0
                THEN floor(ln(timed.microseconds::double precision) * 50)
                ELSE -1 - floor(ln(greatest(-timed.microseconds, 1)::double precision) * 50)
                END::integer AS bucket
        FROM (
            SELECT step.definition_hash, step.step_id,
                least(greatest(round(step.seconds * 1000000), -9e15), 9e15)::bigint
                    AS microseconds
            FROM step
            WHERE step.is_new AND step.event_type = 'stepfinished' AND step.seconds IS NOT NULL
                AND step.step_id IS NOT NULL
        ) AS timed
    )
    SELECT
        (SELECT jsonb_agg(to_jsonb(sums)) FROM (
            SELECT step.definition_hash, step.step_id,
                count(*) FILTER (WHERE step.is_first) AS executions,
                count(*) FILTER (WHERE step.event_type = 'stepstarted') AS attempts,
                count(*) FILTER (WHERE step.event_type = 'stepfailed') AS failures,
                count(*) FILTER (WHERE step.event_type = 'retryscheduled') AS retries
            FROM step
            WHERE step.is_new AND step.step_id IS NOT NULL
            GROUP BY step.definition_hash, step.step_id
        ) AS sums),
        (SELECT jsonb_agg(to_jsonb(sums)) FROM (
            SELECT finished.definition_hash, finished.step_id, finished.bucket,
                count(*) AS finished, sum(finished.microseconds) AS microseconds,
                min(finished.microseconds) AS shortest, max(finished.microseconds) AS longest
            FROM finished
            GROUP BY finished.definition_hash, finished.step_id, finished.bucket
        ) AS sums),
        (SELECT jsonb_agg(to_jsonb(sums)) FROM (
            SELECT step.definition_hash, step.step_id, step.error_class, count(*) AS failures,
                count(*) FILTER (WHERE step.is_first_failure) AS flows,
                max(step.ts) AS last_failed_at
            FROM step
            WHERE step.is_new AND step.event_type = 'stepfailed'
            GROUP BY step.definition_hash, step.step_id, step.error_class
        ) AS sums),
        (SELECT jsonb_agg(to_jsonb(sums)) FROM (
            SELECT date_trunc('hour', event.ts, 'UTC') AS hour, count(*) AS events,
                count(*) FILTER (WHERE event.version = 0) AS flows_started,
                count(*) FILTER (WHERE event.event_type = 'flowcompleted') AS flows_completed,
                count(*) FILTER (WHERE event.event_type = 'flowcancelled') AS flows_cancelled,
                count(*) FILTER (WHERE event.event_type = 'stepfinished') AS steps_finished,
                count(*) FILTER (WHERE event.event_type = 'stepfailed') AS steps_failed,
                count(*) FILTER (WHERE event.event_type = 'retryscheduled') AS retries
            FROM event
            WHERE event.is_new
            GROUP BY date_trunc('hour', event.ts, 'UTC')
        ) AS sums)
    INTO steps, durations, failures, hours;

    INSERT INTO step_statistics AS kept (key, definition_hash, step_id, executions, finished,
        attempts, failures, retries)
    SELECT sha256(convert_to(jsonb_build_array(new.definition_hash, new.step_id)::text, 'UTF8')),
        nullif(new.definition_hash, ''), new.step_id, new.executions, 0, new.attempts,
        new.failures, new.retries
    FROM jsonb_to_recordset(steps) AS new (definition_hash text, step_id text, executions bigint,
        attempts bigint, failures bigint, retries bigint)
    ON CONFLICT (key) DO UPDATE SET
        executions = kept.executions + excluded.executions,
        attempts = kept.attempts + excluded.attempts,
        failures = kept.failures + excluded.failures,
        retries = kept.retries + excluded.retries;

    WITH added AS (
        INSERT INTO step_durations AS kept (key, bucket, finished, microseconds, shortest, longest)
        SELECT
            sha256(convert_to(jsonb_build_array(new.definition_hash, new.step_id)::text, 'UTF8')),
            new.bucket, new.finished, new.microseconds, new.shortest, new.longest
        FROM jsonb_to_recordset(durations) AS new (definition_hash text, step_id text,
            bucket integer, finished bigint, microseconds numeric, shortest bigint, longest bigint)
        ON CONFLICT (key, bucket) DO UPDATE SET
            finished = kept.finished + excluded.finished,
            microseconds = kept.microseconds + excluded.microseconds,
            shortest = least(kept.shortest, excluded.shortest),
            longest = greatest(kept.longest, excluded.longest)
        RETURNING kept.key
    )
    SELECT array_agg(DISTINCT added.key) INTO keys FROM added;

    -- the percentiles of percentile_cont, in whose place the durations of a bucket lie evenly between
    -- its shortest and its longest
    WITH bucket AS (
        SELECT kept.key, kept.finished, kept.microseconds, kept.shortest, kept.longest,
            sum(kept.finished) OVER (PARTITION BY kept.key ORDER BY kept.bucket) - kept.finished
                AS before,
            sum(kept.finished) OVER (PARTITION BY kept.key) AS total
        FROM step_durations AS kept
        WHERE kept.key = ANY (keys)
    ),
    place AS (
        SELECT bucket.key, wanted.percentile, wanted.rank,
            bucket.shortest + (bucket.longest - bucket.shortest)
                * (neighbour.rank - bucket.before::double precision)
                / greatest(bucket.finished - 1, 1) AS microseconds
        FROM bucket
        CROSS JOIN LATERAL (
            SELECT part.percentile, part.percentile * (bucket.total - 1)::double precision AS rank
            FROM (VALUES (0.5::double precision), (0.9), (0.99)) AS part (percentile)
        ) AS wanted
        CROSS JOIN LATERAL (VALUES (floor(wanted.rank)), (floor(wanted.rank) + 1))
            AS neighbour (rank)
        WHERE neighbour.rank >= bucket.before AND neighbour.rank < bucket.before + bucket.finished
    ),
    percentile AS (
        SELECT place.key, place.percentile, (min(place.microseconds)
            + (max(place.microseconds) - min(place.microseconds))
                * (place.rank - floor(place.rank))) / 1000000 AS seconds
        FROM place
        GROUP BY place.key, place.percentile, place.rank
    ),
    percentiles AS (
        SELECT percentile.key,
            max(percentile.seconds) FILTER (WHERE percentile.percentile = 0.5) AS p50,
            max(percentile.seconds) FILTER (WHERE percentile.percentile = 0.9) AS p90,
            max(percentile.seconds) FILTER (WHERE percentile.percentile = 0.99) AS p99
        FROM percentile
        GROUP BY percentile.key
    ),
    sums AS (
        SELECT bucket.key, sum(bucket.finished) AS finished,
            sum(bucket.microseconds) AS microseconds, max(bucket.longest) AS longest
        FROM bucket
        GROUP BY bucket.key
    )
    UPDATE step_statistics AS kept
    SET finished = sums.finished,
        mean_seconds = sums.microseconds::double precision / sums.finished::double precision / 1000000,
        p50_seconds = percentiles.p50,
        p90_seconds = percentiles.p90,
        p99_seconds = percentiles.p99,
        longest_seconds = sums.longest::double precision / 1000000
    FROM sums
    JOIN percentiles ON percentiles.key = sums.key
    WHERE sums.key = kept.key;

    INSERT INTO failure_statistics AS kept
        (key, definition_hash, step_id, error_class, failures, flows, last_failed_at)
    SELECT sha256(convert_to(jsonb_build_array(new.definition_hash, new.step_id,
            new.error_class)::text, 'UTF8')),
        nullif(new.definition_hash, ''), new.step_id, new.error_class, new.failures, new.flows,
        new.last_failed_at
    FROM jsonb_to_recordset(failures) AS new (definition_hash text, step_id text,
        error_class text, failures bigint, flows bigint, last_failed_at timestamptz)
    ON CONFLICT (key) DO UPDATE SET
        failures = kept.failures + excluded.failures,
        flows = kept.flows + excluded.flows,
        last_failed_at = greatest(kept.last_failed_at, excluded.last_failed_at);

    INSERT INTO hourly_throughput AS kept
        (hour, events, flows_started, flows_completed, flows_cancelled, steps_finished,
            steps_failed, retries)
    SELECT new.hour, new.events, new.flows_started, new.flows_completed, new.flows_cancelled,
        new.steps_finished, new.steps_failed, new.retries
    FROM jsonb_to_recordset(hours) AS new (hour timestamptz, events bigint, flows_started bigint,
        flows_completed bigint, flows_cancelled bigint, steps_finished bigint,
        steps_failed bigint, retries bigint)
    ON CONFLICT (hour) DO UPDATE SET
        events = kept.events + excluded.events,
        flows_started = kept.flows_started + excluded.flows_started,
        flows_completed = kept.flows_completed + excluded.flows_completed,
        flows_cancelled = kept.flows_cancelled + excluded.flows_cancelled,
        steps_finished = kept.steps_finished + excluded.steps_finished,
        steps_failed = kept.steps_failed + excluded.steps_failed,
        retries = kept.retries + excluded.retries;

    -- the artifacts that came with the new events; their bodies are not read
    SELECT jsonb_agg(jsonb_build_array(stored.kind, stored.upload_id, stored.artifacts,
            stored.bytes)),
        array_agg(stored.upload_id) FILTER (WHERE stored.upload_id IS NOT NULL)
    INTO artifacts, uploads
    FROM (
        SELECT artifact.kind, artifact.upload_id, count(*) AS artifacts,
            sum(coalesce(pg_column_size(artifact.payload), pg_column_size(artifact.content), 0))
                AS bytes
        FROM workflow_step_artifacts AS artifact
        WHERE artifact.flow_id = ANY (touched) AND artifact.flow_id <> ALL (counted)
            AND artifact.produced_in_seq > after AND artifact.produced_in_seq <= upto
        GROUP BY artifact.kind, artifact.upload_id
    ) AS stored;
    SELECT jsonb_object_agg(uploaded.upload_id, uploaded.bytes) INTO chunks
    FROM (
        SELECT chunk.upload_id, sum(pg_column_size(chunk.content)) AS bytes
        FROM workflow_step_artifact_chunks AS chunk
        WHERE chunk.upload_id = ANY (uploads)
        GROUP BY chunk.upload_id
    ) AS uploaded;
    INSERT INTO artifact_statistics AS kept (key, kind, artifacts, stored_bytes)
    SELECT sha256(convert_to(new.value ->> 0, 'UTF8')), new.value ->> 0,
        sum((new.value ->> 2)::bigint),
        sum((new.value ->> 3)::bigint + coalesce((chunks ->> (new.value ->> 1))::bigint, 0))
    FROM jsonb_array_elements(artifacts) AS new (value)
    GROUP BY new.value ->> 0
    ON CONFLICT (key) DO UPDATE SET
        artifacts = kept.artifacts + excluded.artifacts,
        stored_bytes = kept.stored_bytes + excluded.stored_bytes;
END
$function$;

CREATE OR REPLACE FUNCTION count_leaving_flows(flow_ids uuid[])
 RETURNS void
 LANGUAGE plpgsql
AS $function$
DECLARE
    last_seq bigint;
BEGIN
    SELECT max(event.seq) INTO last_seq FROM event_log AS event WHERE event.flow_id = ANY (flow_ids);
    IF last_seq <= (SELECT refresh.seq FROM statistics_refresh AS refresh) THEN
        RETURN;
    END IF;
    PERFORM count_events(lock_statistics(), last_seq, flow_ids);
END
$function$;

CREATE OR REPLACE FUNCTION count_reserved_slots(wanted text, flow uuid, asked_first timestamp with time zone, present timestamp with time zone)
 RETURNS bigint
 LANGUAGE plpgsql
AS $function$
DECLARE
    earlier uuid[];
    given uuid[];
BEGIN
    earlier := ARRAY(
        SELECT waits.flow_id
        FROM resource_waits AS waits
        WHERE waits.resource = wanted AND waits.flow_id <> flow AND waits.is_possible
            AND (waits.since, waits.flow_id) < (asked_first, flow)
            AND waits.asks_at > present - interval '1 minute'
        ORDER BY waits.since, waits.flow_id
        LIMIT (SELECT count(*) FROM resource_slots AS slot WHERE slot.resource = wanted));
    given := ARRAY(SELECT run.flow_id FROM flow_runs AS run WHERE run.flow_id = ANY (earlier));
    DELETE FROM resource_waits AS waits
    WHERE waits.resource = wanted AND waits.flow_id = ANY (earlier)
        AND waits.flow_id <> ALL (given);
    RETURN (SELECT coalesce(sum(waits.amount), 0)
        FROM resource_waits AS waits
        WHERE waits.resource = wanted AND waits.flow_id = ANY (given));
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
BEGIN
    IF pg_is_in_recovery() THEN
        RAISE EXCEPTION 'a standby does not know who is writing: read the feed from the primary'
            USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    -- in this order: whoever has a number up to this one took his lock before it, and still holds it or has ended
    last_seq := coalesce(pg_sequence_last_value(sequence), 0);
    -- a lock has 31 bits of the number; one that seems to be far behind is of who came after the line above
    SELECT min(last_seq - held.behind) INTO first_locked
    FROM (SELECT (last_seq - locks.objid::bigint) & 2147483647 AS behind
            FROM pg_locks AS locks
            WHERE locks.locktype = 'advisory' AND locks.objsubid = 2 AND locks.classid = sequence
                AND locks.database = (SELECT own.oid FROM pg_database AS own WHERE own.datname = current_database())) AS held
    WHERE held.behind < 1073741824;
    RETURN coalesce(first_locked, last_seq);
END
$function$;

CREATE OR REPLACE FUNCTION find_results(fingerprints text[], most integer)
 RETURNS TABLE(found_fingerprint text, found_flow_id uuid, found_version integer, found_outputs jsonb)
 LANGUAGE plpgsql
 STABLE
 SET plan_cache_mode TO 'force_generic_plan'
 SET enable_seqscan TO 'off'
 SET enable_bitmapscan TO 'off'
AS $function$
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
$function$;

CREATE OR REPLACE FUNCTION fold_statistics(upto bigint)
 RETURNS bigint
 LANGUAGE plpgsql
AS $function$
DECLARE
    counted bigint := lock_statistics();
    next_seq bigint;
    last_seq bigint;
    as_of timestamptz := now();
BEGIN
    IF counted < upto THEN
        SELECT min(event.seq) INTO next_seq
        FROM event_log AS event
        WHERE event.seq > counted AND event.seq <= upto;
        last_seq := least(next_seq + 199999, upto);
        PERFORM count_events(counted, last_seq, NULL);
        IF last_seq < upto THEN  -- the figures are those of the time of the last event
            SELECT event.ts INTO as_of
            FROM event_log AS event
            WHERE event.seq > counted AND event.seq <= last_seq
            ORDER BY event.seq DESC
            LIMIT 1;
            as_of := least(greatest(as_of, 'epoch'), now());
        END IF;
        counted := last_seq;
    END IF;
    UPDATE statistics_refresh SET refreshed_at = as_of, seq = counted;
    RETURN counted;
END
$function$;

CREATE OR REPLACE FUNCTION free_ended_slots(resources text[])
 RETURNS void
 LANGUAGE plpgsql
AS $function$
DECLARE
    users uuid[];
    given uuid[];
    ended text[];
BEGIN
    users := ARRAY(
        SELECT DISTINCT slot.flow_id
        FROM resource_slots AS slot
        WHERE slot.resource = ANY (resources) AND slot.flow_id IS NOT NULL);
    given := ARRAY(SELECT run.flow_id FROM flow_runs AS run WHERE run.flow_id = ANY (users));
    ended := ARRAY(
        SELECT concat(step.flow_id, '/', step.step_index)
        FROM workflow_step_executions AS step
        WHERE step.flow_id = ANY (users) AND step.status IN ('finished', 'failed'));
    UPDATE resource_slots AS slot
    SET flow_id = NULL, step_index = NULL
    WHERE slot.resource = ANY (resources) AND slot.flow_id IS NOT NULL
        AND (slot.flow_id <> ALL (given)
            OR concat(slot.flow_id, '/', slot.step_index) = ANY (ended));
    DELETE FROM resource_slots AS slot
    WHERE slot.resource = ANY (resources) AND slot.is_leaving AND slot.flow_id IS NULL;
END
$function$;

CREATE OR REPLACE FUNCTION give_back_flow_run(flow uuid, token uuid, due_in interval)
 RETURNS boolean
 LANGUAGE plpgsql
AS $function$
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
$function$;

CREATE OR REPLACE FUNCTION give_back_resource_slots(flow uuid, step bigint, token uuid)
 RETURNS void
 LANGUAGE plpgsql
AS $function$
BEGIN
    PERFORM lock_resources(ARRAY(
        SELECT slot.resource FROM resource_slots AS slot
        WHERE slot.flow_id = flow AND slot.step_index = step));
    PERFORM 1 FROM flow_runs AS run WHERE run.flow_id = flow AND run.lease = token;
    IF FOUND THEN
        UPDATE resource_slots AS slot
        SET flow_id = NULL, step_index = NULL
        WHERE slot.flow_id = flow AND slot.step_index = step;
    END IF;
END
$function$;

CREATE OR REPLACE FUNCTION lock_resources(resources text[])
 RETURNS text[]
 LANGUAGE plpgsql
AS $function$
DECLARE
    wanted text;
    limited text[] := '{}';
BEGIN
    FOR wanted IN
        SELECT DISTINCT asked.resource FROM unnest(resources) AS asked (resource)
        ORDER BY asked.resource
    LOOP
        PERFORM 1 FROM resource_slots AS slot WHERE slot.resource = wanted AND slot.slot = 0
        FOR UPDATE;
        IF FOUND THEN
            limited := array_append(limited, wanted);
        END IF;
    END LOOP;
    RETURN limited;
END
$function$;

CREATE OR REPLACE FUNCTION lock_statistics()
 RETURNS bigint
 LANGUAGE plpgsql
AS $function$
DECLARE
    counted bigint;
BEGIN
    SELECT refresh.seq INTO counted FROM statistics_refresh AS refresh FOR UPDATE;
    IF NOT FOUND THEN
        INSERT INTO statistics_refresh (refreshed_at, seq) VALUES (now(), -1)
        ON CONFLICT DO NOTHING;
        SELECT refresh.seq INTO counted FROM statistics_refresh AS refresh FOR UPDATE;
    END IF;
    IF counted = -1 THEN
        DELETE FROM step_statistics;
        DELETE FROM step_durations;
        DELETE FROM failure_statistics;
        DELETE FROM hourly_throughput;
        DELETE FROM artifact_statistics;
        UPDATE statistics_refresh SET seq = 0;
        counted := 0;
    END IF;
    RETURN counted;
END
$function$;

CREATE OR REPLACE FUNCTION refuse_change_of_history()
 RETURNS trigger
 LANGUAGE plpgsql
AS $function$
BEGIN
    RAISE EXCEPTION '% is append-only: % is refused', TG_TABLE_NAME, TG_OP USING ERRCODE = 'restrict_violation';
END
$function$;

CREATE OR REPLACE FUNCTION refuse_delete_of_live_artifacts()
 RETURNS trigger
 LANGUAGE plpgsql
 SET search_path TO 'public', 'pg_temp'
 SET plan_cache_mode TO 'force_generic_plan'
AS $function$
BEGIN
    IF NOT EXISTS (SELECT 1 FROM gone) OR EXISTS (
        SELECT 1
        FROM gone AS artifact
        WHERE NOT artifact.has_all_uses
            OR artifact.kind IN
                ('chem_persistence.FlowDefinition', 'chem_persistence.StepDefinition')
            OR NOT EXISTS (SELECT 1 FROM archived_flows AS registered
                WHERE registered.flow_id = artifact.flow_id)
            OR EXISTS (SELECT 1 FROM event_log AS event
                WHERE event.flow_id = artifact.flow_id)) THEN
        RAISE EXCEPTION '% is append-only: % is refused', TG_TABLE_NAME, TG_OP
            USING ERRCODE = 'restrict_violation',
                DETAIL = 'Only what archived flows alone use can be deleted.';
    END IF;
    RETURN NULL;
END
$function$;

CREATE OR REPLACE FUNCTION refuse_delete_of_live_chunks()
 RETURNS trigger
 LANGUAGE plpgsql
 SET search_path TO 'public', 'pg_temp'
 SET plan_cache_mode TO 'force_generic_plan'
AS $function$
BEGIN
    IF NOT EXISTS (SELECT 1 FROM gone) OR EXISTS (
        SELECT 1
        FROM (SELECT DISTINCT chunk.upload_id FROM gone AS chunk) AS deleted
        WHERE EXISTS (SELECT 1 FROM workflow_step_artifacts AS artifact
                WHERE artifact.upload_id = deleted.upload_id)
            OR EXISTS (SELECT 1 FROM workflow_step_artifact_chunks AS left_over
                WHERE left_over.upload_id = deleted.upload_id)) THEN
        RAISE EXCEPTION '% is append-only: % is refused', TG_TABLE_NAME, TG_OP
            USING ERRCODE = 'restrict_violation',
                DETAIL = 'Only whole uploads that no artifact has can be deleted.';
    END IF;
    RETURN NULL;
END
$function$;

CREATE OR REPLACE FUNCTION refuse_delete_of_live_flows()
 RETURNS trigger
 LANGUAGE plpgsql
 SET search_path TO 'public', 'pg_temp'
 SET plan_cache_mode TO 'force_generic_plan'
AS $function$
BEGIN
    IF NOT EXISTS (SELECT 1 FROM gone) OR EXISTS (
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
            OR NOT EXISTS (SELECT 1 FROM archived_flows AS registered
                WHERE registered.flow_id = deleted.flow_id
                    AND registered.version = deleted.events
                    AND registered.chain_hash = deleted.head)
            OR EXISTS (SELECT 1 FROM event_log AS left_over
                WHERE left_over.flow_id = deleted.flow_id)) THEN
        RAISE EXCEPTION '% is append-only: % is refused', TG_TABLE_NAME, TG_OP
            USING ERRCODE = 'restrict_violation',
                DETAIL = 'Only whole sealed flows that archived_flows names with their head can be deleted.';
    END IF;
    RETURN NULL;
END
$function$;

CREATE OR REPLACE FUNCTION refuse_delete_of_live_uses()
 RETURNS trigger
 LANGUAGE plpgsql
 SET search_path TO 'public', 'pg_temp'
 SET plan_cache_mode TO 'force_generic_plan'
AS $function$
BEGIN
    IF NOT EXISTS (SELECT 1 FROM gone) OR EXISTS (
        SELECT 1
        FROM (SELECT DISTINCT used.flow_id FROM gone AS used) AS deleted
        WHERE NOT EXISTS (SELECT 1 FROM archived_flows AS registered
                WHERE registered.flow_id = deleted.flow_id)
            OR EXISTS (SELECT 1 FROM event_log AS event
                WHERE event.flow_id = deleted.flow_id)) THEN
        RAISE EXCEPTION '% is append-only: % is refused', TG_TABLE_NAME, TG_OP
            USING ERRCODE = 'restrict_violation',
                DETAIL = 'Only the uses of archived flows can be deleted.';
    END IF;
    RETURN NULL;
END
$function$;

CREATE OR REPLACE FUNCTION refuse_delete_of_used_artifacts()
 RETURNS trigger
 LANGUAGE plpgsql
 SET search_path TO 'public', 'pg_temp'
 SET plan_cache_mode TO 'force_generic_plan'
AS $function$
BEGIN
    IF EXISTS (SELECT 1 FROM workflow_step_artifact_uses AS used
            WHERE used.artifact_hash = OLD.artifact_hash) THEN
        RAISE EXCEPTION '% is append-only: % is refused', TG_TABLE_NAME, TG_OP
            USING ERRCODE = 'restrict_violation',
                DETAIL = 'A flow uses the artifact.';
    END IF;
    RETURN OLD;
END
$function$;

CREATE OR REPLACE FUNCTION release_flow_runs(flow_ids uuid[], tokens uuid[])
 RETURNS SETOF uuid
 LANGUAGE plpgsql
AS $function$
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
$function$;

CREATE OR REPLACE FUNCTION renew_flow_runs(flow_ids uuid[], tokens uuid[], duration interval)
 RETURNS TABLE(held_flow_id uuid, is_renewed boolean, is_called boolean)
 LANGUAGE plpgsql
AS $function$
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
$function$;

CREATE OR REPLACE FUNCTION set_resource_limit(wanted text, most integer)
 RETURNS void
 LANGUAGE plpgsql
AS $function$
BEGIN
    IF most IS NULL THEN
        PERFORM lock_resources(ARRAY[wanted]);
        DELETE FROM resource_waits AS waits WHERE waits.resource = wanted;
        DELETE FROM resource_slots AS slot WHERE slot.resource = wanted;
        RETURN;
    END IF;
    INSERT INTO resource_slots (resource, slot) VALUES (wanted, 0) ON CONFLICT DO NOTHING;
    PERFORM lock_resources(ARRAY[wanted]);
    INSERT INTO resource_slots AS slot (resource, slot)
    SELECT wanted, number FROM generate_series(0, most - 1) AS number
    ON CONFLICT (resource, slot) DO UPDATE SET is_leaving = false WHERE slot.is_leaving;
    UPDATE resource_slots AS slot SET is_leaving = true
    WHERE slot.resource = wanted AND slot.slot >= most;
    PERFORM free_ended_slots(ARRAY[wanted]);
END
$function$;

CREATE OR REPLACE FUNCTION take_flow_run(flow uuid, worker uuid, token uuid, duration interval)
 RETURNS text
 LANGUAGE plpgsql
AS $function$
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
$function$;

CREATE OR REPLACE FUNCTION take_resource_slots(flow uuid, step bigint, resources text[], amounts integer[], first_pause interval, longest_pause interval, pause_per_flow interval)
 RETURNS TABLE(is_limited boolean, short_of text, pause interval)
 LANGUAGE plpgsql
AS $function$
DECLARE
    limited text[] := lock_resources(resources);
    present timestamptz := clock_timestamp();
    asked_first timestamptz;
    ahead bigint := 0;
    possible boolean := true;
    asked record;
BEGIN
    is_limited := limited <> '{}';
    IF NOT is_limited THEN
        RETURN NEXT;
        RETURN;
    END IF;
    PERFORM free_ended_slots(limited);
    asked_first := coalesce((SELECT min(waits.since) FROM resource_waits AS waits
        WHERE waits.flow_id = flow AND waits.step_index = step), present);
    FOR asked IN
        SELECT wanted.resource, wanted.amount, count(*) FILTER (WHERE NOT slot.is_leaving) AS most,
            count(slot.flow_id) AS used,
            count(*) FILTER (WHERE slot.flow_id = flow AND slot.step_index = step) AS own
        FROM unnest(resources, amounts) AS wanted (resource, amount)
        JOIN resource_slots AS slot ON slot.resource = wanted.resource
        GROUP BY wanted.resource, wanted.amount
        ORDER BY wanted.resource
    LOOP
        possible := possible AND asked.amount <= asked.most;
        IF asked.own < asked.amount AND asked.used - asked.own + asked.amount
            + count_reserved_slots(asked.resource, flow, asked_first, present) > asked.most
        THEN
            short_of := coalesce(short_of, asked.resource);
            ahead := greatest(ahead, (SELECT count(*) FROM resource_waits AS waits
                WHERE waits.resource = asked.resource
                    AND (waits.since, waits.flow_id) < (asked_first, flow)));
        END IF;
    END LOOP;

    -- all or none: also of what another version of the step may have taken
    UPDATE resource_slots AS slot
    SET flow_id = NULL, step_index = NULL
    FROM (SELECT own.resource, own.slot,
            row_number() OVER (PARTITION BY own.resource ORDER BY own.is_leaving, own.slot) AS number
        FROM resource_slots AS own
        WHERE own.flow_id = flow AND own.step_index = step AND own.resource = ANY (limited)) AS own
    JOIN unnest(resources, amounts) AS wanted (resource, amount) ON wanted.resource = own.resource
    WHERE slot.resource = own.resource AND slot.slot = own.slot
        AND (short_of IS NOT NULL OR own.number > wanted.amount);
    DELETE FROM resource_waits AS waits WHERE waits.flow_id = flow;
    IF short_of IS NOT NULL THEN
        pause := greatest(first_pause, least((present - asked_first) / 2, longest_pause),
            ahead * pause_per_flow);
        INSERT INTO resource_waits
            (resource, flow_id, step_index, amount, since, asks_at, is_possible)
        SELECT wanted.resource, flow, step, wanted.amount, asked_first, present + pause, possible
        FROM unnest(resources, amounts) AS wanted (resource, amount)
        WHERE wanted.resource = ANY (limited);
        RETURN NEXT;
        RETURN;
    END IF;
    UPDATE resource_slots AS slot
    SET flow_id = flow, step_index = step
    FROM (SELECT free.resource, free.slot,
            row_number() OVER (PARTITION BY free.resource ORDER BY free.slot) AS number
        FROM resource_slots AS free
        WHERE free.resource = ANY (limited) AND free.flow_id IS NULL AND NOT free.is_leaving) AS free
    JOIN unnest(resources, amounts) AS wanted (resource, amount) ON wanted.resource = free.resource
    WHERE slot.resource = free.resource AND slot.slot = free.slot
        AND free.number <= wanted.amount - (SELECT count(*) FROM resource_slots AS own
            WHERE own.resource = free.resource AND own.flow_id = flow AND own.step_index = step);
    RETURN NEXT;
END
$function$;

CREATE OR REPLACE FUNCTION use_artifacts(flows uuid[], hashes text[])
 RETURNS void
 LANGUAGE sql
AS $function$
    INSERT INTO workflow_step_artifact_uses (artifact_hash, flow_id)
    SELECT DISTINCT used.artifact_hash, used.flow_id
    FROM unnest(flows, hashes) AS used (flow_id, artifact_hash)
    JOIN workflow_step_artifacts AS stored ON stored.artifact_hash = used.artifact_hash
    WHERE stored.flow_id <> used.flow_id AND stored.kind NOT IN
        ('chem_persistence.FlowDefinition', 'chem_persistence.StepDefinition')
    ORDER BY used.artifact_hash, used.flow_id
    ON CONFLICT DO NOTHING
$function$;

CREATE TRIGGER archived_flows_append_only BEFORE DELETE OR UPDATE ON archived_flows FOR EACH STATEMENT EXECUTE FUNCTION refuse_change_of_history();

CREATE TRIGGER archived_flows_no_truncate BEFORE TRUNCATE ON archived_flows FOR EACH STATEMENT EXECUTE FUNCTION refuse_change_of_history();

CREATE TRIGGER event_log_append_only BEFORE UPDATE ON event_log FOR EACH STATEMENT EXECUTE FUNCTION refuse_change_of_history();

CREATE TRIGGER event_log_no_truncate BEFORE TRUNCATE ON event_log FOR EACH STATEMENT EXECUTE FUNCTION refuse_change_of_history();

CREATE TRIGGER event_log_whole_flows AFTER DELETE ON event_log REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION refuse_delete_of_live_flows();

CREATE TRIGGER workflow_step_artifact_chunks_append_only BEFORE UPDATE ON workflow_step_artifact_chunks FOR EACH STATEMENT EXECUTE FUNCTION refuse_change_of_history();

CREATE TRIGGER workflow_step_artifact_chunks_archived AFTER DELETE ON workflow_step_artifact_chunks REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION refuse_delete_of_live_chunks();

CREATE TRIGGER workflow_step_artifact_chunks_no_truncate BEFORE TRUNCATE ON workflow_step_artifact_chunks FOR EACH STATEMENT EXECUTE FUNCTION refuse_change_of_history();

CREATE TRIGGER workflow_step_artifact_uses_append_only BEFORE UPDATE ON workflow_step_artifact_uses FOR EACH STATEMENT EXECUTE FUNCTION refuse_change_of_history();

CREATE TRIGGER workflow_step_artifact_uses_archived AFTER DELETE ON workflow_step_artifact_uses REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION refuse_delete_of_live_uses();

CREATE TRIGGER workflow_step_artifact_uses_no_truncate BEFORE TRUNCATE ON workflow_step_artifact_uses FOR EACH STATEMENT EXECUTE FUNCTION refuse_change_of_history();

CREATE TRIGGER workflow_step_artifacts_append_only BEFORE UPDATE ON workflow_step_artifacts FOR EACH STATEMENT EXECUTE FUNCTION refuse_change_of_history();

CREATE TRIGGER workflow_step_artifacts_archived AFTER DELETE ON workflow_step_artifacts REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION refuse_delete_of_live_artifacts();

CREATE TRIGGER workflow_step_artifacts_no_truncate BEFORE TRUNCATE ON workflow_step_artifacts FOR EACH STATEMENT EXECUTE FUNCTION refuse_change_of_history();

CREATE TRIGGER workflow_step_artifacts_used BEFORE DELETE ON workflow_step_artifacts FOR EACH ROW EXECUTE FUNCTION refuse_delete_of_used_artifacts();
