-- What people ask of a log: lists of flows, failures, where artifacts come from, figures. All is derived by views; what an
-- append pays for are entries in partial indexes, and documentation/read-models.md has the measured costs.
-- Each statement stands below a line that begins with "-- statement:"; they run one by one in one transaction.

-- statement: a flow by its first event, its last one, its completion and its step rows; each of these is asked for by itself
-- in the flow's own keys, only for the flows that are shown: joined, the planner would cache them for all flows of the log
CREATE OR REPLACE VIEW flows AS
SELECT
    first_event.flow_id AS flow_id,
    first_event.ts AS started_at,
    (SELECT event.ts FROM event_log AS event WHERE event.flow_id = first_event.flow_id
        ORDER BY event.version DESC LIMIT 1) AS last_event_at,
    (SELECT max(event.version) + 1 FROM event_log AS event WHERE event.flow_id = first_event.flow_id) AS version,
    beginning.definition_hash AS definition_hash,
    beginning.step_count AS step_count,
    (SELECT count(*) FILTER (WHERE step.status = 'finished') FROM workflow_step_executions AS step
        WHERE step.flow_id = first_event.flow_id) AS finished_steps,
    CASE
        WHEN (SELECT count(*) FROM event_log AS event
            WHERE event.flow_id = first_event.flow_id AND event.event_type = 'flowcompleted') > 0 THEN 'completed'
        ELSE (SELECT CASE
            WHEN count(*) FILTER (WHERE step.status = 'failed') > 0 THEN 'failed'
            WHEN count(*) FILTER (WHERE step.status = 'awaiting_user_input') > 0 THEN 'awaiting_user_input'
            ELSE 'running'
        END FROM workflow_step_executions AS step WHERE step.flow_id = first_event.flow_id)
    END AS state,
    (SELECT count(*) FILTER (WHERE step.finished_so_far = step.step_index + 1) FROM (
        SELECT execution.step_index AS step_index,
            count(*) FILTER (WHERE execution.status = 'finished')
                OVER (PARTITION BY execution.flow_id ORDER BY execution.step_index) AS finished_so_far
        FROM workflow_step_executions AS execution WHERE execution.flow_id = first_event.flow_id
    ) AS step) AS cursor,
    (SELECT max(step.step_id) FILTER (WHERE step.status <> 'finished' AND step.finished_so_far = step.step_index) FROM (
        SELECT execution.step_index AS step_index, execution.step_id AS step_id, execution.status AS status,
            count(*) FILTER (WHERE execution.status = 'finished')
                OVER (PARTITION BY execution.flow_id ORDER BY execution.step_index) AS finished_so_far
        FROM workflow_step_executions AS execution WHERE execution.flow_id = first_event.flow_id
    ) AS step) AS current_step,
    (SELECT step.error FROM workflow_step_executions AS step
        WHERE step.flow_id = first_event.flow_id AND step.status = 'failed'
        ORDER BY step.step_index DESC LIMIT 1) AS failure
FROM event_log AS first_event
CROSS JOIN LATERAL (
    SELECT first_event.payload ->> 'definition_hash' AS definition_hash,
        (first_event.payload ->> 'step_count')::bigint AS step_count
) AS beginning
WHERE first_event.version = 0

-- statement: every failure of a step; its attempt is the number of starts of the step before it
CREATE VIEW step_execution_errors AS
SELECT
    failure.flow_id AS flow_id,
    failure.version AS version,
    failure.seq AS seq,
    (failure.payload ->> 'step_index')::bigint AS step_index,
    failure.payload ->> 'step_id' AS step_id,
    attempts.started AS attempt,
    failure.ts AS failed_at,
    failure.payload ->> 'fingerprint' AS fingerprint,
    failure.payload -> 'error' AS error
FROM event_log AS failure
CROSS JOIN LATERAL (
    SELECT count(*) AS started
    FROM event_log AS event
    WHERE event.flow_id = failure.flow_id AND event.version < failure.version
        AND event.event_type = 'stepstarted' AND event.payload -> 'step_index' = failure.payload -> 'step_index'
) AS attempts
WHERE failure.event_type = 'stepfailed'

-- statement: how long steps take, and how often they fail; a step id may be too long for an index, its hash is not
CREATE MATERIALIZED VIEW step_statistics AS
SELECT
    sha256(convert_to(step.step_id, 'UTF8')) AS key,
    step.step_id AS step_id,
    step.executions AS executions,
    step.finished AS finished,
    step.attempts AS attempts,
    coalesce(setback.failures, 0) AS failures,
    coalesce(setback.retries, 0) AS retries,
    coalesce(setback.failures, 0)::double precision / nullif(step.attempts, 0) AS failure_rate,
    step.mean AS mean_seconds,
    step.percentiles[1] AS p50_seconds,
    step.percentiles[2] AS p90_seconds,
    step.percentiles[3] AS p99_seconds,
    step.longest AS longest_seconds
FROM (
    SELECT
        timed.step_id AS step_id,
        count(*) AS executions,
        count(timed.seconds) AS finished,
        sum(timed.attempts) AS attempts,
        avg(timed.seconds) AS mean,
        percentile_cont('{0.5,0.9,0.99}'::double precision[]) WITHIN GROUP (ORDER BY timed.seconds) AS percentiles,
        max(timed.seconds) AS longest
    FROM (
        SELECT execution.step_id AS step_id, execution.attempts AS attempts, CASE execution.status WHEN 'finished'
            THEN extract(epoch FROM execution.finished_at - execution.started_at)::double precision END AS seconds
        FROM workflow_step_executions AS execution
    ) AS timed
    GROUP BY timed.step_id
) AS step
LEFT JOIN (
    SELECT
        event.payload ->> 'step_id' AS step_id,
        count(*) FILTER (WHERE event.event_type = 'stepfailed') AS failures,
        count(*) FILTER (WHERE event.event_type = 'retryscheduled') AS retries
    FROM event_log AS event
    WHERE event.event_type IN ('stepfailed', 'retryscheduled')
    GROUP BY event.payload ->> 'step_id'
) AS setback ON setback.step_id = step.step_id

-- statement: a refresh that blocks no reader needs to tell rows apart
CREATE UNIQUE INDEX step_statistics_key ON step_statistics (key)

-- statement: what fails, and how
CREATE MATERIALIZED VIEW failure_statistics AS
SELECT
    sha256(convert_to(jsonb_build_array(failure.step_id, failure.error_class)::text, 'UTF8')) AS key,
    failure.step_id AS step_id,
    failure.error_class AS error_class,
    count(*) AS failures,
    count(DISTINCT event.flow_id) AS flows,
    max(event.ts) AS last_failed_at
FROM event_log AS event
CROSS JOIN LATERAL (
    SELECT event.payload ->> 'step_id' AS step_id, event.payload #>> '{error,error_class}' AS error_class
) AS failure
WHERE event.event_type = 'stepfailed'
GROUP BY failure.step_id, failure.error_class

-- statement: a refresh that blocks no reader needs to tell rows apart
CREATE UNIQUE INDEX failure_statistics_key ON failure_statistics (key)

-- statement: what happened, hour by hour
CREATE MATERIALIZED VIEW hourly_throughput AS
SELECT
    bucket.hour AS hour,
    count(*) AS events,
    count(*) FILTER (WHERE event.version = 0) AS flows_started,
    count(*) FILTER (WHERE event.event_type = 'flowcompleted') AS flows_completed,
    count(*) FILTER (WHERE event.event_type = 'stepfinished') AS steps_finished,
    count(*) FILTER (WHERE event.event_type = 'stepfailed') AS steps_failed,
    count(*) FILTER (WHERE event.event_type = 'retryscheduled') AS retries
FROM event_log AS event
CROSS JOIN LATERAL (SELECT date_trunc('hour', event.ts, 'UTC') AS hour) AS bucket
GROUP BY bucket.hour

-- statement: a refresh that blocks no reader needs to tell rows apart
CREATE UNIQUE INDEX hourly_throughput_key ON hourly_throughput (hour)

-- statement: how many artifacts there are, and the bytes that the database stores for them, without reading their bodies
CREATE MATERIALIZED VIEW artifact_statistics AS
SELECT
    sha256(convert_to(artifact.kind, 'UTF8')) AS key,
    artifact.kind AS kind,
    count(*) AS artifacts,
    sum(coalesce(pg_column_size(artifact.payload), pg_column_size(artifact.content), chunks.bytes, 0))::bigint AS stored_bytes
FROM workflow_step_artifacts AS artifact
LEFT JOIN (
    SELECT chunk.upload_id AS upload_id, sum(pg_column_size(chunk.content)) AS bytes
    FROM workflow_step_artifact_chunks AS chunk
    GROUP BY chunk.upload_id
) AS chunks ON chunks.upload_id = artifact.upload_id
GROUP BY artifact.kind

-- statement: a refresh that blocks no reader needs to tell rows apart
CREATE UNIQUE INDEX artifact_statistics_key ON artifact_statistics (key)

-- statement: when the figures were refreshed
CREATE MATERIALIZED VIEW statistics_refresh AS
SELECT true AS refreshed, now() AS refreshed_at

-- statement: a refresh that blocks no reader needs to tell rows apart
CREATE UNIQUE INDEX statistics_refresh_key ON statistics_refresh (refreshed)

-- statement: what did not go straight on, the newest at the end; no other event has an entry
CREATE INDEX event_log_setback_idx ON event_log (event_type, seq, flow_id)
    WHERE event_type IN ('stepfailed', 'retryscheduled', 'userinteractionrequested')

-- statement: the index of first events below takes this one's place
DROP INDEX event_log_first_event_idx

-- statement: the newest flows, and which flows there are, without looking at any event
CREATE INDEX event_log_first_event_idx ON event_log (ts, flow_id) WHERE version = 0

-- statement: the first output of a step, which is what the next one takes as its input, and the input of a flow; a number for
-- the hash, because it is a third of the bytes for the append to write
CREATE INDEX event_log_input_idx ON event_log (hashtextextended(coalesce(payload #>> '{outputs,0}', payload ->> 'input'), 0))
    WHERE event_type IN ('stepfinished', 'flowinitialized')

-- statement: the outputs of the few steps that have more than one
CREATE INDEX event_log_outputs_idx ON event_log USING gin ((payload -> 'outputs') jsonb_path_ops)
    WHERE event_type = 'stepfinished' AND payload #> '{outputs,1}' IS NOT NULL
