-- Read what a parent needs to know of its children, and a child of its parent.

-- name: list_cancelled
-- List the flows that are cancelled, or for which somebody has asked that.
-- $1 uuid[] flow_id
SELECT DISTINCT event.flow_id
FROM event_log AS event
WHERE event.flow_id = ANY ($1)
    AND (event.event_type = 'flowcancelled' OR (event.event_type = 'stepsignal'
        AND event.payload ->> 'signal' = 'chem_persistence.cancel'))

-- name: read_branches
-- Read the branches of each flow, in the order in which they were made.
-- $1 uuid[] flow_id, $2 bigint maximum number of rows
SELECT event.flow_id, (event.payload ->> 'branch_id')::uuid AS branch_id
FROM event_log AS event
WHERE event.flow_id = ANY ($1) AND event.event_type = 'branchcreated'
ORDER BY event.flow_id, event.version
LIMIT $2

-- name: read_child_outputs
-- Read the first output of the last step that finished, of each flow; null if none has.
-- $1 uuid[] flow_id
SELECT first_event.flow_id,
    (SELECT event.payload #>> '{outputs,0}' FROM event_log AS event
        WHERE event.flow_id = first_event.flow_id AND event.event_type = 'stepfinished'
        ORDER BY event.version DESC LIMIT 1) AS output
FROM event_log AS first_event
WHERE first_event.version = 0 AND first_event.flow_id = ANY ($1)

-- name: read_child_states
-- Read the type of the last event of each flow, but for those that change nothing about its end.
-- $1 uuid[] flow_id
SELECT first_event.flow_id,
    (SELECT event.event_type FROM event_log AS event
        WHERE event.flow_id = first_event.flow_id
            AND event.event_type NOT IN ('stepsignal', 'propertypreferenceassigned',
                'branchcreated')
        ORDER BY event.version DESC LIMIT 1) AS event_type
FROM event_log AS first_event
WHERE first_event.version = 0 AND first_event.flow_id = ANY ($1)
