-- Find the results of steps again, and what became of them; migration 0016 has the indexes.

-- name: count_taken_over
-- Count how often each result was taken over, by the flow and the step that worked it out.
SELECT event.payload ->> 'step_id' AS step_id,
    (event.payload #>> '{reused_from,flow_id}')::uuid AS flow_id, count(*) AS times
FROM event_log AS event
WHERE event.event_type = 'stepfinished' AND event.payload ? 'reused_from'
GROUP BY event.payload ->> 'step_id', event.payload #>> '{reused_from,flow_id}'

-- name: find_results
-- Find the results of steps, the oldest ones first, that were not invalidated.
-- $1 text[] fingerprint, $2 integer maximum number of results of each
SELECT found_fingerprint AS fingerprint, found_flow_id AS flow_id, found_version AS version,
    found_outputs AS outputs
FROM find_results($1, $2)

-- name: list_taken_over
-- List the steps of other flows that took results of a flow over, in the order of the log.
-- $1 text flow_id, $2 bigint maximum number of rows
SELECT event.flow_id, event.version, event.payload ->> 'step_id' AS step_id,
    (event.payload #>> '{reused_from,version}')::bigint AS origin_version
FROM event_log AS event
WHERE event.event_type = 'stepfinished' AND event.payload ? 'reused_from'
    AND coalesce(event.payload #>> '{reused_from,flow_id}', event.flow_id::text) = $1
ORDER BY event.seq
LIMIT $2

-- name: read_run_times
-- Read how long the last runs of finished steps took, in seconds.
-- $1 uuid[] flow_id
SELECT step.flow_id, step.step_id,
    extract(epoch FROM step.finished_at - step.started_at)::double precision AS seconds
FROM workflow_step_executions AS step
WHERE step.flow_id = ANY ($1) AND step.status = 'finished' AND step.started_at IS NOT NULL
