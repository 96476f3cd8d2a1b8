-- Claim flows for workers, and take them back; the functions of migration 0012 change the rows.

-- name: add_flow_runs
-- Add the rows of flows that were given to workers, are not over, and have none; return how many.
-- $1 integer maximum number of rows
SELECT add_flow_runs($1) AS added

-- name: announce_worker
-- Store that a worker runs, and which definitions it serves.
-- $1 uuid worker, $2 text name, $3 text[] definition_hash
INSERT INTO flow_workers AS worker (worker_id, name, definitions, seen_at)
VALUES ($1, $2, $3, now())
ON CONFLICT (worker_id) DO UPDATE
    SET name = excluded.name, definitions = excluded.definitions, seen_at = excluded.seen_at

-- name: call_flow_runs
-- Call flows without an event; return those that were called.
-- $1 uuid[] flow_id
SELECT flow_id FROM call_flow_runs($1) AS called (flow_id)

-- name: claim_flow_runs
-- Claim due flows, and return them.
-- $1 text[] definition_hash, $2 uuid worker, $3 uuid token, $4 integer maximum number of flows,
-- $5 interval duration of the lease
SELECT claimed_flow_id AS flow_id, claimed_definition_hash AS definition_hash
FROM claim_flow_runs($1, $2, $3, $4, $5)

-- name: count_held_runs
-- Count the flows that each worker holds.
SELECT run.holder, count(*) AS flows
FROM flow_runs AS run
WHERE run.lease IS NOT NULL
GROUP BY run.holder

-- name: count_runs
-- Count the flows of definitions that are due, and those that wait and are held by nobody.
-- $1 text[] definition_hash, $2 timestamptz the present
SELECT run.definition_hash, count(*) FILTER (WHERE run.due_at <= $2) AS due,
    count(*) FILTER (WHERE run.due_at > $2 AND run.lease IS NULL AND NOT run.by_program)
        AS waiting
FROM flow_runs AS run
WHERE run.definition_hash = ANY ($1::text[])
GROUP BY run.definition_hash

-- name: give_back_flow_run
-- Release a flow with which there was nothing to do; return whether it was held by this lease.
-- $1 uuid flow_id, $2 uuid token, $3 interval until it is due (null: not by itself)
SELECT give_back_flow_run($1, $2, $3) AS was_held

-- name: leave_flow_run
-- Release a flow that a program runs by itself, not due by itself; return it if it was held by this
-- lease.
-- $1 uuid flow_id, $2 uuid token
UPDATE flow_runs AS run
SET lease = NULL, holder = NULL, called = false, due_at = 'infinity'
WHERE run.flow_id = $1 AND run.lease = $2
RETURNING run.flow_id

-- name: list_free_runs
-- List one page of the flows that nobody holds, but those that programs run by themselves, and those
-- that were imported.
-- $1 uuid flow_id after which the page begins, $2 bigint maximum number of rows
SELECT run.flow_id
FROM flow_runs AS run
WHERE run.flow_id > $1 AND run.lease IS NULL AND NOT run.by_program
    AND NOT EXISTS (SELECT 1 FROM imported_flows AS imported WHERE imported.flow_id = run.flow_id)
ORDER BY run.flow_id
LIMIT $2

-- name: list_other_definitions
-- List the definitions of flows of a distributed log that are not over, without those that are known.
-- $1 text[] definition_hash, $2 bigint maximum number of rows
SELECT DISTINCT run.definition_hash
FROM flow_runs AS run
WHERE run.definition_hash <> ALL ($1::text[])
LIMIT $2

-- name: list_questions
-- List the last question of each of some flows, as the payload of its event.
-- $1 uuid[] flow_id
SELECT DISTINCT ON (event.flow_id) event.flow_id, event.version, event.event_type, event.payload,
    CASE WHEN event.ts BETWEEN '0001-01-01 00:00:00+00' AND '9999-12-31 23:59:59.999999+00'
        THEN event.ts
        END AS ts
FROM event_log AS event
WHERE event.flow_id = ANY($1::uuid[]) AND event.event_type = 'userinteractionrequested'
ORDER BY event.flow_id, event.version DESC

-- name: list_waiting_runs
-- List the flows that no worker runs, those that are due longest first, but those that programs run
-- by themselves.
-- $1 timestamptz the time at which leases that end earlier have ended, $2 bigint maximum number of
-- rows
SELECT run.flow_id, run.definition_hash, run.due_at <= $1 AS is_due,
    CASE WHEN run.due_at < '9999-12-31 00:00:00+00' THEN run.due_at END AS due_at
FROM flow_runs AS run
WHERE (run.lease IS NULL OR run.due_at <= $1) AND NOT run.by_program
ORDER BY run.due_at, run.flow_id
LIMIT $2

-- name: list_workers
-- List the workers, the one that was seen last first.
SELECT worker.worker_id, worker.name, worker.definitions, worker.seen_at
FROM flow_workers AS worker
ORDER BY worker.seen_at DESC, worker.worker_id

-- name: next_due_run
-- Return the time of the server, and when the next flow of some definitions is due, or its lease
-- ends; null: not within a time. The parameters stand in subqueries, so that the plan is kept.
-- $1 text[] definition_hash, $2 interval that time
SELECT now() AS present, min(run.due_at) AS due_at
FROM flow_runs AS run
WHERE run.definition_hash = ANY ((SELECT $1::text[])::text[])
    AND run.due_at <= (SELECT now() + $2::interval)

-- name: next_due_run_of_nodes
-- Return what `next_due_run` does; of a distributed log in half of the time, since Citus runs each
-- subquery by itself.
-- $1 text[] definition_hash, $2 interval that time
SELECT now() AS present, min(run.due_at) AS due_at
FROM flow_runs AS run
WHERE run.definition_hash = ANY ($1::text[]) AND run.due_at <= now() + $2::interval

-- name: notify_workers
-- Tell the workers that listen that flows of these definitions are due. Losing that with a crash of
-- the server does no harm, so the commit is not waited for.
-- $1 text[] definition_hash (empty: of any definition)
SELECT set_config('synchronous_commit', 'off', true),
    pg_notify('chem_persistence_due_' || 'flow_runs'::regclass::oid::text, due.definition_hash)
FROM unnest($1::text[]) AS due (definition_hash)

-- name: read_claimed_runs
-- Read what a claim has claimed, when its reply was lost.
-- $1 uuid token
SELECT run.flow_id, run.definition_hash
FROM flow_runs AS run
WHERE run.lease = $1

-- name: read_clock
-- Return the time of the server.
SELECT now() AS present

-- name: read_flow_run
-- Return who holds a flow, and when it is due; null: not by itself.
-- $1 uuid flow_id
SELECT CASE WHEN run.due_at < '9999-12-31 00:00:00+00' THEN run.due_at END AS due_at, run.lease,
    run.holder
FROM flow_runs AS run
WHERE run.flow_id = $1

-- name: read_hint_channel
-- Return the channel on which workers are told that flows are due.
SELECT 'chem_persistence_due_' || 'flow_runs'::regclass::oid::text AS channel

-- name: rebuild_flow_runs
-- Make the rows of flows due as their events say, if that is earlier; return which were changed.
-- $1 uuid[] flow_id
SELECT change_flow_run(flow_id, 0, false, true) AS is_changed
FROM unnest($1::uuid[]) AS free (flow_id)

-- name: release_flow_runs
-- Release flows, due now; return those released.
-- $1 uuid[] flow_id, $2 uuid[] token of each
SELECT flow_id FROM release_flow_runs($1, $2) AS released (flow_id)

-- name: remember_imports
-- Record that flows were imported.
-- $1 uuid[] flow_id
INSERT INTO imported_flows AS imported (flow_id)
SELECT added.flow_id FROM unnest($1::uuid[]) AS added (flow_id)
ON CONFLICT DO NOTHING

-- name: renew_flow_runs
-- Renew leases; return the flows that are held by them, whether they were renewed, and whether
-- they were called.
-- $1 uuid[] flow_id, $2 uuid[] token of each, $3 interval duration of the lease
SELECT held_flow_id AS flow_id, is_renewed, is_called
FROM renew_flow_runs($1, $2, $3)

-- name: set_aside
-- Leave flows that were imported to no worker, until something is said to them.
-- $1 uuid[] flow_id
UPDATE flow_runs AS run SET lease = NULL, holder = NULL, called = false, due_at = 'infinity'
WHERE run.flow_id = ANY ($1::uuid[])

-- name: take_flow_run
-- Claim one flow, also before it is due; return its definition, or null if that is not possible.
-- $1 uuid flow_id, $2 uuid worker, $3 uuid token, $4 interval duration of the lease
SELECT take_flow_run($1, $2, $3, $4) AS definition_hash

-- name: walk_other_definitions
-- List the definitions of flows that are not over, without those that are known: one look into the
-- index of flows that are due for each definition, however many flows it has.
-- $1 text[] definition_hash, $2 bigint maximum number of rows
WITH RECURSIVE walked AS (
    (SELECT run.definition_hash FROM flow_runs AS run ORDER BY run.definition_hash LIMIT 1)
    UNION ALL
    SELECT following.definition_hash
    FROM walked
    CROSS JOIN LATERAL (
        SELECT run.definition_hash
        FROM flow_runs AS run
        WHERE run.definition_hash > walked.definition_hash
        ORDER BY run.definition_hash
        LIMIT 1
    ) AS following
)
SELECT walked.definition_hash
FROM walked
WHERE walked.definition_hash <> ALL ($1::text[])
LIMIT $2

-- name: withdraw_worker
-- Remove a worker that has stopped, and those that were not seen for a week.
-- $1 uuid worker
DELETE FROM flow_workers AS worker
WHERE worker.worker_id = $1 OR worker.seen_at < now() - interval '7 days'
