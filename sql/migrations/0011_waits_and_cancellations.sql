-- Steps that wait until a time, and flows that were cancelled.
-- Each statement stands below a line that begins with "-- statement:"; they run one by one in one
-- transaction.

-- statement: two events more are known
ALTER TABLE event_log DROP CONSTRAINT event_log_event_type_known_check

-- statement: those of old rows are among them; one constant, since each append reads the text of
-- every constraint, and that of IN is four times as long
ALTER TABLE event_log ADD CONSTRAINT event_log_event_type_known_check CHECK (event_type = ANY ('{
    flowinitialized, stepstarted, stepfinished, stepfailed, stepsignal,
    propertypreferenceassigned, retryscheduled, branchcreated,
    userinteractionrequested, userinteractionprovided, flowcompleted,
    stepwaits, flowcancelled
}'))

-- statement: a step has one status more
ALTER TABLE workflow_step_executions DROP CONSTRAINT workflow_step_executions_status_check

-- statement: that of a step which waits
ALTER TABLE workflow_step_executions ADD CONSTRAINT workflow_step_executions_status_check
    CHECK (status = ANY (
        '{pending, running, waiting, finished, failed, awaiting_user_input}'
    ))

-- statement: the flows that may be waiting, and whether a flow was cancelled; no other event has an
-- entry. It is one index, because each index costs every append a little, also without an entry
CREATE INDEX event_log_halt_idx ON event_log (event_type, flow_id)
    WHERE event_type IN ('stepwaits', 'flowcancelled')

-- statement: a flow by its first event, its last one, its end and its step rows; a step that has
-- not begun has no row
CREATE OR REPLACE VIEW flows AS
SELECT
    first_event.flow_id AS flow_id,
    first_event.ts AS started_at,
    (SELECT event.ts FROM event_log AS event WHERE event.flow_id = first_event.flow_id
        ORDER BY event.version DESC LIMIT 1) AS last_event_at,
    (SELECT max(event.version) + 1 FROM event_log AS event
        WHERE event.flow_id = first_event.flow_id) AS version,
    beginning.definition_hash AS definition_hash,
    beginning.step_count AS step_count,
    (SELECT count(*) FILTER (WHERE step.status = 'finished')
        FROM workflow_step_executions AS step
        WHERE step.flow_id = first_event.flow_id) AS finished_steps,
    CASE
        WHEN (SELECT count(*) FROM event_log AS event
            WHERE event.flow_id = first_event.flow_id
                AND event.event_type = 'flowcompleted') > 0 THEN 'completed'
        WHEN (SELECT count(*) FROM event_log AS event
            WHERE event.flow_id = first_event.flow_id
                AND event.event_type = 'flowcancelled') > 0 THEN 'cancelled'
        ELSE (SELECT CASE
            WHEN count(*) FILTER (WHERE step.status = 'failed') > 0 THEN 'failed'
            WHEN count(*) FILTER (WHERE step.status = 'awaiting_user_input') > 0
                THEN 'awaiting_user_input'
            WHEN count(*) FILTER (WHERE step.status = 'waiting') > 0 THEN 'waiting'
            WHEN count(*) > 0 THEN 'running'
            ELSE 'pending'
        END FROM workflow_step_executions AS step WHERE step.flow_id = first_event.flow_id)
    END AS state,
    (SELECT count(*) FILTER (WHERE step.finished_so_far = step.step_index + 1) FROM (
        SELECT execution.step_index AS step_index,
            count(*) FILTER (WHERE execution.status = 'finished')
                OVER (PARTITION BY execution.flow_id ORDER BY execution.step_index)
                AS finished_so_far
        FROM workflow_step_executions AS execution
        WHERE execution.flow_id = first_event.flow_id
    ) AS step) AS cursor,
    (SELECT max(step.step_id) FILTER (WHERE step.status <> 'finished'
            AND step.finished_so_far = step.step_index) FROM (
        SELECT execution.step_index AS step_index, execution.step_id AS step_id,
            execution.status AS status,
            count(*) FILTER (WHERE execution.status = 'finished')
                OVER (PARTITION BY execution.flow_id ORDER BY execution.step_index)
                AS finished_so_far
        FROM workflow_step_executions AS execution
        WHERE execution.flow_id = first_event.flow_id
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

-- statement: its rows are computed anew below
DROP MATERIALIZED VIEW hourly_throughput

-- statement: what happened, hour by hour; the unit is a table because Citus runs the query so, and
-- so that every version of PostgreSQL writes it back with qualified columns
CREATE MATERIALIZED VIEW hourly_throughput AS
SELECT
    date_trunc(bucket.unit, event.ts, 'UTC') AS hour,
    count(*) AS events,
    count(*) FILTER (WHERE event.version = 0) AS flows_started,
    count(*) FILTER (WHERE event.event_type = 'flowcompleted') AS flows_completed,
    count(*) FILTER (WHERE event.event_type = 'flowcancelled') AS flows_cancelled,
    count(*) FILTER (WHERE event.event_type = 'stepfinished') AS steps_finished,
    count(*) FILTER (WHERE event.event_type = 'stepfailed') AS steps_failed,
    count(*) FILTER (WHERE event.event_type = 'retryscheduled') AS retries
FROM event_log AS event
CROSS JOIN (VALUES ('hour')) AS bucket (unit)
GROUP BY date_trunc(bucket.unit, event.ts, 'UTC')

-- statement: a refresh that blocks no reader needs to tell rows apart
CREATE UNIQUE INDEX hourly_throughput_key ON hourly_throughput (hour)
