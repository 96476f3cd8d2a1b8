-- The flows as a view that joins what it asks of each, which is how it began.
CREATE VIEW joined_flows AS
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
