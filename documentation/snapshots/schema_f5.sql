-- The schema that the migrations in sql/migrations make together, as a live PostgreSQL (15 to 18) describes it.
-- Written by `make snapshot`; a test compares it with a live database. Do not edit it: write a migration.

CREATE SEQUENCE event_log_seq_seq AS bigint
    START 1 INCREMENT 1 MINVALUE 1 MAXVALUE 9223372036854775807 CACHE 1 NO CYCLE;

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
    CONSTRAINT event_log_chain_hash_check CHECK (octet_length(chain_hash) = 32),
    CONSTRAINT event_log_event_type_known_check CHECK (event_type = ANY (ARRAY['flowinitialized'::text, 'stepstarted'::text, 'stepfinished'::text, 'stepfailed'::text, 'stepsignal'::text, 'propertypreferenceassigned'::text, 'retryscheduled'::text, 'branchcreated'::text, 'userinteractionrequested'::text, 'userinteractionprovided'::text, 'flowcompleted'::text])),
    CONSTRAINT event_log_event_type_lower_check CHECK (event_type = lower(event_type)),
    CONSTRAINT event_log_metadata_check CHECK (jsonb_typeof(metadata) = 'object'::text),
    CONSTRAINT event_log_payload_type_check CHECK (NOT (payload ->> 'type'::text) IS DISTINCT FROM event_type),
    CONSTRAINT event_log_version_check CHECK (version >= 0)
);

CREATE TABLE schema_migrations (
    version integer NOT NULL,
    name text NOT NULL,
    checksum text NOT NULL,
    applied_at timestamp with time zone NOT NULL,
    CONSTRAINT schema_migrations_pkey PRIMARY KEY (version),
    CONSTRAINT schema_migrations_checksum_check CHECK (checksum ~ '^[0-9a-f]{64}$'::text)
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
    CONSTRAINT workflow_step_artifacts_pkey PRIMARY KEY (artifact_hash),
    CONSTRAINT workflow_step_artifacts_body_check CHECK (num_nonnulls(payload, content) = 1),
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
    CONSTRAINT workflow_step_executions_status_check CHECK (status = ANY (ARRAY['pending'::text, 'running'::text, 'finished'::text, 'failed'::text, 'awaiting_user_input'::text]))
);

ALTER SEQUENCE event_log_seq_seq OWNED BY event_log.seq;

ALTER TABLE workflow_step_artifacts ADD CONSTRAINT workflow_step_artifacts_producer_fkey
    FOREIGN KEY (flow_id, produced_in_seq) REFERENCES event_log(flow_id, seq);

CREATE INDEX event_log_completed_idx ON event_log USING btree (flow_id) WHERE event_type = 'flowcompleted'::text;

CREATE INDEX event_log_first_event_idx ON event_log USING btree (ts) WHERE version = 0;

CREATE VIEW flows AS
 SELECT first_event.flow_id,
    first_event.ts AS started_at,
    last_event.ts AS last_event_at,
    last_event.version + 1 AS version,
    first_event.payload ->> 'definition_hash'::text AS definition_hash,
    (first_event.payload ->> 'step_count'::text)::bigint AS step_count,
    steps.finished AS finished_steps,
        CASE
            WHEN completion.events > 0 THEN 'completed'::text
            WHEN steps.failed > 0 THEN 'failed'::text
            WHEN steps.awaiting_user_input > 0 THEN 'awaiting_user_input'::text
            ELSE 'running'::text
        END AS state
   FROM event_log first_event
     CROSS JOIN LATERAL ( SELECT event.ts,
            event.version
           FROM event_log event
          WHERE event.flow_id = first_event.flow_id
          ORDER BY event.version DESC
         LIMIT 1) last_event
     CROSS JOIN LATERAL ( SELECT count(*) AS events
           FROM event_log event
          WHERE event.flow_id = first_event.flow_id AND event.event_type = 'flowcompleted'::text) completion
     CROSS JOIN LATERAL ( SELECT count(*) FILTER (WHERE step.status = 'finished'::text) AS finished,
            count(*) FILTER (WHERE step.status = 'failed'::text) AS failed,
            count(*) FILTER (WHERE step.status = 'awaiting_user_input'::text) AS awaiting_user_input
           FROM workflow_step_executions step
          WHERE step.flow_id = first_event.flow_id) steps
  WHERE first_event.version = 0;

CREATE OR REPLACE FUNCTION refuse_change_of_history()
 RETURNS trigger
 LANGUAGE plpgsql
AS $function$
BEGIN
    RAISE EXCEPTION '% is append-only: % is refused', TG_TABLE_NAME, TG_OP USING ERRCODE = 'restrict_violation';
END
$function$;

CREATE TRIGGER event_log_append_only BEFORE DELETE OR UPDATE ON event_log FOR EACH STATEMENT EXECUTE FUNCTION refuse_change_of_history();

CREATE TRIGGER event_log_no_truncate BEFORE TRUNCATE ON event_log FOR EACH STATEMENT EXECUTE FUNCTION refuse_change_of_history();

CREATE TRIGGER workflow_step_artifacts_append_only BEFORE DELETE OR UPDATE ON workflow_step_artifacts FOR EACH STATEMENT EXECUTE FUNCTION refuse_change_of_history();

CREATE TRIGGER workflow_step_artifacts_no_truncate BEFORE TRUNCATE ON workflow_step_artifacts FOR EACH STATEMENT EXECUTE FUNCTION refuse_change_of_history();
