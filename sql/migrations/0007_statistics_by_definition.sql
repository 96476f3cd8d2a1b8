-- Statistics for each definition, since steps of two definitions may have the same id, and the artifacts of a flow.
-- Each statement stands below a line that begins with "-- statement:"; they run one by one in one transaction.

-- statement: the artifacts of a flow that no event names, and the other side of the foreign key
CREATE INDEX workflow_step_artifacts_flow_idx ON workflow_step_artifacts (flow_id, produced_in_seq)

-- statement: its rows are computed anew below
DROP MATERIALIZED VIEW step_statistics

-- statement: its rows are computed anew below
DROP MATERIALIZED VIEW failure_statistics

-- statement: how long the steps of a definition take, and how often they fail; null is the definition of flows without one
CREATE MATERIALIZED VIEW step_statistics AS
SELECT
    sha256(convert_to(jsonb_build_array(step.definition, step.step_id)::text, 'UTF8')) AS key,
    nullif(step.definition, '') AS definition_hash,
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
        timed.definition AS definition,
        timed.step_id AS step_id,
        count(*) AS executions,
        count(timed.seconds) AS finished,
        sum(timed.attempts) AS attempts,
        avg(timed.seconds) AS mean,
        percentile_cont('{0.5,0.9,0.99}'::double precision[]) WITHIN GROUP (ORDER BY timed.seconds) AS percentiles,
        max(timed.seconds) AS longest
    FROM (
        SELECT coalesce(beginning.payload ->> 'definition_hash', '') AS definition,
            execution.step_id AS step_id, execution.attempts AS attempts, CASE execution.status WHEN 'finished'
                THEN extract(epoch FROM execution.finished_at - execution.started_at)::double precision END AS seconds
        FROM workflow_step_executions AS execution
        LEFT JOIN event_log AS beginning ON beginning.flow_id = execution.flow_id AND beginning.version = 0
    ) AS timed
    GROUP BY timed.definition, timed.step_id
) AS step
LEFT JOIN (
    SELECT
        coalesce(beginning.payload ->> 'definition_hash', '') AS definition,
        event.payload ->> 'step_id' AS step_id,
        count(*) FILTER (WHERE event.event_type = 'stepfailed') AS failures,
        count(*) FILTER (WHERE event.event_type = 'retryscheduled') AS retries
    FROM event_log AS event
    JOIN event_log AS beginning ON beginning.flow_id = event.flow_id AND beginning.version = 0
    WHERE event.event_type IN ('stepfailed', 'retryscheduled')
    GROUP BY coalesce(beginning.payload ->> 'definition_hash', ''), event.payload ->> 'step_id'
) AS setback ON setback.definition = step.definition AND setback.step_id = step.step_id

-- statement: a refresh that blocks no reader needs to tell rows apart
CREATE UNIQUE INDEX step_statistics_key ON step_statistics (key)

-- statement: what fails in the flows of a definition, and how
CREATE MATERIALIZED VIEW failure_statistics AS
SELECT
    sha256(convert_to(jsonb_build_array(coalesce(beginning.payload ->> 'definition_hash', ''), event.payload ->> 'step_id',
        event.payload #>> '{error,error_class}')::text, 'UTF8')) AS key,
    beginning.payload ->> 'definition_hash' AS definition_hash,
    event.payload ->> 'step_id' AS step_id,
    event.payload #>> '{error,error_class}' AS error_class,
    count(*) AS failures,
    count(DISTINCT event.flow_id) AS flows,
    max(event.ts) AS last_failed_at
FROM event_log AS event
JOIN event_log AS beginning ON beginning.flow_id = event.flow_id AND beginning.version = 0
WHERE event.event_type = 'stepfailed'
GROUP BY beginning.payload ->> 'definition_hash', event.payload ->> 'step_id', event.payload #>> '{error,error_class}'

-- statement: a refresh that blocks no reader needs to tell rows apart
CREATE UNIQUE INDEX failure_statistics_key ON failure_statistics (key)
