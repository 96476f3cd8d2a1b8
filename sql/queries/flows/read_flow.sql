-- Read one flow; a time that no datetime can hold is null.
-- $1 uuid flow_id
SELECT flow_id,
    CASE WHEN started_at BETWEEN '0001-01-01 00:00:00+00' AND '9999-12-31 23:59:59.999999+00' THEN started_at
        END AS started_at,
    CASE WHEN last_event_at BETWEEN '0001-01-01 00:00:00+00' AND '9999-12-31 23:59:59.999999+00' THEN last_event_at
        END AS last_event_at,
    version, definition_hash, step_count, finished_steps, state, cursor, current_step, failure
FROM flows
WHERE flow_id = $1
