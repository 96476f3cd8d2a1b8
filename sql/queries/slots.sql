-- Limits of resources over all workers; the functions of migration 0014 change the slots.

-- name: give_back_resource_slots
-- Free the slots of a step that was not begun, if its flow is held by this lease.
-- $1 uuid flow_id, $2 bigint step_index, $3 uuid token
SELECT give_back_resource_slots($1, $2, $3)

-- name: list_next_waits
-- List the flows that have waited longest for resources, as many as could have what was freed.
-- $1 text[] resource, $2 integer[] the slots that were freed of each
SELECT DISTINCT next.flow_id
FROM unnest($1::text[], $2::integer[]) AS freed (resource, amount)
CROSS JOIN LATERAL (
    SELECT first.flow_id,
        sum(first.amount) OVER (ORDER BY first.since, first.flow_id) - first.amount AS before
    FROM (SELECT waits.flow_id, waits.amount, waits.since
        FROM resource_waits AS waits
        WHERE waits.resource = freed.resource AND waits.is_possible
        ORDER BY waits.since, waits.flow_id
        LIMIT freed.amount) AS first) AS next
WHERE next.before < freed.amount

-- name: list_slots
-- List the slots of all resources.
SELECT slot.resource, slot.flow_id, slot.step_index, slot.is_leaving
FROM resource_slots AS slot
ORDER BY slot.resource, slot.slot

-- name: list_waits
-- List the flows that wait for slots of each resource.
SELECT waits.resource, waits.flow_id, waits.is_possible
FROM resource_waits AS waits

-- name: read_ended_steps
-- Return which steps of flows have finished or failed.
-- $1 uuid[] flow_id
SELECT step.flow_id, step.step_index
FROM workflow_step_executions AS step
WHERE step.flow_id = ANY ($1::uuid[]) AND step.status IN ('finished', 'failed')

-- name: read_given_flows
-- Return which of some flows are given to workers, and not over.
-- $1 uuid[] flow_id
SELECT run.flow_id
FROM flow_runs AS run
WHERE run.flow_id = ANY ($1::uuid[])

-- name: set_resource_limit
-- Limit a resource to so many slots.
-- $1 text resource, $2 integer the number of slots (null: it is not limited)
SELECT set_resource_limit($1, $2)

-- name: take_resource_slots
-- Take the slots that a step uses, all or none; return whether any of the resources is limited, or
-- which one is short, and after which pause to ask again.
-- $1 uuid flow_id, $2 bigint step_index, $3 text[] resource, $4 integer[] amount of each,
-- $5 interval first pause, $6 interval longest pause, $7 interval pause for each flow before
SELECT is_limited, short_of, pause
FROM take_resource_slots($1, $2, $3, $4, $5, $6, $7)
