-- The log, its artifacts, the step-execution projection and the view of flows.
-- Each statement stands below a line that begins with "-- statement:"; they run one by one in one transaction.

-- statement: the append-only log; a flow's events are its versions 0, 1, 2, ...
CREATE TABLE event_log (
    seq bigserial NOT NULL,
    flow_id uuid NOT NULL,
    version integer NOT NULL,
    event_id uuid NOT NULL,
    ts timestamptz NOT NULL,
    event_type text NOT NULL,
    payload jsonb NOT NULL,
    metadata jsonb NOT NULL,
    chain_hash bytea NOT NULL,
    CONSTRAINT event_log_pkey PRIMARY KEY (flow_id, seq),
    CONSTRAINT event_log_flow_version_key UNIQUE (flow_id, version),
    CONSTRAINT event_log_version_check CHECK (version >= 0),
    CONSTRAINT event_log_event_type_lower_check CHECK (event_type = lower(event_type)),
    CONSTRAINT event_log_event_type_known_check CHECK (event_type IN (
        'flowinitialized', 'stepstarted', 'stepfinished', 'stepfailed', 'stepsignal',
        'propertypreferenceassigned', 'retryscheduled', 'branchcreated',
        'userinteractionrequested', 'userinteractionprovided', 'flowcompleted'
    )),
    CONSTRAINT event_log_payload_type_check CHECK ((payload ->> 'type') IS NOT DISTINCT FROM event_type),
    CONSTRAINT event_log_metadata_check CHECK (jsonb_typeof(metadata) = 'object'),
    CONSTRAINT event_log_chain_hash_check CHECK (octet_length(chain_hash) = 32)
)

-- statement: what steps produced, once by hash; the event that came with it is its producer
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
    CONSTRAINT workflow_step_artifacts_producer_fkey FOREIGN KEY (flow_id, produced_in_seq)
        REFERENCES event_log (flow_id, seq),
    CONSTRAINT workflow_step_artifacts_hash_check CHECK (artifact_hash ~ '^[0-9a-f]{64}$'),
    CONSTRAINT workflow_step_artifacts_body_check CHECK (num_nonnulls(payload, content) = 1),
    CONSTRAINT workflow_step_artifacts_metadata_check CHECK (jsonb_typeof(metadata) = 'object')
)

-- statement: one row a step, kept in the append's own transaction and rebuildable from the log
CREATE TABLE workflow_step_executions (
    flow_id uuid NOT NULL,
    step_index bigint NOT NULL,
    step_id text NOT NULL,
    status text NOT NULL,
    attempts integer NOT NULL,
    retry_count bigint NOT NULL,
    fingerprint text,
    started_at timestamptz,
    finished_at timestamptz,
    error jsonb,
    CONSTRAINT workflow_step_executions_pkey PRIMARY KEY (flow_id, step_index),
    CONSTRAINT workflow_step_executions_status_check CHECK (status IN (
        'pending', 'running', 'finished', 'failed', 'awaiting_user_input'
    ))
)

-- statement: the newest flows, without looking at any event but their first
CREATE INDEX event_log_first_event_idx ON event_log (ts) WHERE version = 0

-- statement: whether a flow is completed, also when more was said about it afterwards, without looking at its other events
CREATE INDEX event_log_completed_idx ON event_log (flow_id) WHERE event_type = 'flowcompleted'

-- statement: what refuses to change history
CREATE FUNCTION refuse_change_of_history() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only: % is refused', TG_TABLE_NAME, TG_OP USING ERRCODE = 'restrict_violation';
END
$$

-- statement: Citus accepts triggers on distributed tables only so; plain PostgreSQL has no such setting and does not mind
SET LOCAL citus.enable_unsafe_triggers = on

-- statement: events are facts
CREATE TRIGGER event_log_append_only BEFORE UPDATE OR DELETE ON event_log
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change_of_history()

-- statement: all of them at once are facts too
CREATE TRIGGER event_log_no_truncate BEFORE TRUNCATE ON event_log
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change_of_history()

-- statement: artifacts are named by their content, so they do not change
CREATE TRIGGER workflow_step_artifacts_append_only BEFORE UPDATE OR DELETE ON workflow_step_artifacts
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change_of_history()

-- statement: nor do all of them at once
CREATE TRIGGER workflow_step_artifacts_no_truncate BEFORE TRUNCATE ON workflow_step_artifacts
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change_of_history()

-- statement: a flow by its first event, its last one, its completion and its step executions
CREATE VIEW flows AS
SELECT
    first_event.flow_id AS flow_id,
    first_event.ts AS started_at,
    last_event.ts AS last_event_at,
    last_event.version + 1 AS version,
    first_event.payload ->> 'definition_hash' AS definition_hash,
    (first_event.payload ->> 'step_count')::bigint AS step_count,
    steps.finished AS finished_steps,
    CASE
        WHEN completion.events > 0 THEN 'completed'
        WHEN steps.failed > 0 THEN 'failed'
        WHEN steps.awaiting_user_input > 0 THEN 'awaiting_user_input'
        ELSE 'running'
    END AS state
FROM event_log AS first_event
CROSS JOIN LATERAL (
    SELECT event.ts AS ts, event.version AS version
    FROM event_log AS event
    WHERE event.flow_id = first_event.flow_id
    ORDER BY event.version DESC
    LIMIT 1
) AS last_event
CROSS JOIN LATERAL (
    SELECT count(*) AS events
    FROM event_log AS event
    WHERE event.flow_id = first_event.flow_id AND event.event_type = 'flowcompleted'
) AS completion
CROSS JOIN LATERAL (
    SELECT
        count(*) FILTER (WHERE step.status = 'finished') AS finished,
        count(*) FILTER (WHERE step.status = 'failed') AS failed,
        count(*) FILTER (WHERE step.status = 'awaiting_user_input') AS awaiting_user_input
    FROM workflow_step_executions AS step
    WHERE step.flow_id = first_event.flow_id
) AS steps
WHERE first_event.version = 0
