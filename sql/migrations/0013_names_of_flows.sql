-- The name that a flow has in its program, and the label that its submitter gave it, beside its id,
-- and the step of another flow whose child it is.
-- Each statement stands below a line that begins with "-- statement:"; they run one by one in one
-- transaction.

-- statement: the view of 0011 with three more columns at its end; they are null if the first event
-- has none
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
        ORDER BY step.step_index DESC LIMIT 1) AS failure,
    beginning.name AS name,
    beginning.label AS label,
    beginning.parent AS parent
FROM event_log AS first_event
CROSS JOIN LATERAL (
    SELECT first_event.payload ->> 'definition_hash' AS definition_hash,
        (first_event.payload ->> 'step_count')::bigint AS step_count,
        first_event.payload ->> 'name' AS name,
        first_event.payload ->> 'label' AS label,
        first_event.payload -> 'parent' AS parent
) AS beginning
WHERE first_event.version = 0
