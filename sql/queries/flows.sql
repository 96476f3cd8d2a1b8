-- Read flows with their states, in pages; `postgres/flow_lists.py` chooses how a list is made.

-- name: count_candidates
-- Count the flows from which lists may be made, each up to a bound: those with a label that
-- begins with a text, those that are not over and were begun for workers or by a program, those
-- that were cancelled, those that are completed, and the steps that have ever failed, by an index
-- alone, or with a class of error.
-- $1 bigint the bound, $2 text beginning of the label, or null for none, $3 text state and
-- $4 text definition_hash, or null for any, $5 bigint the bound of those with the label or error,
-- $6 text class of the error, whole or its end after a dot, or null for any, $7 text[]
-- definition_hash of which flows that are not over are, or null for any
SELECT 'label' AS side, count(*) AS flows
FROM (SELECT first_event.flow_id FROM event_log AS first_event
    WHERE first_event.version = 0 AND first_event.payload ? 'label'
        AND (first_event.payload ->> 'label') COLLATE "C" >= $2::text
        AND (first_event.payload ->> 'label') COLLATE "C" < $2::text || U&'\+10FFFF'
    LIMIT $5) AS labelled
UNION ALL
SELECT 'open', count(*)
FROM (SELECT run.flow_id FROM flow_runs AS run
    WHERE ($4::text IS NULL OR run.definition_hash = $4)
        AND ($7::text[] IS NULL OR run.definition_hash = ANY ($7))
    LIMIT CASE WHEN $6::text IS NOT NULL OR $3::text IN ('cancelled', 'completed', 'failed')
        THEN 0 ELSE $1::bigint END) AS open
UNION ALL
SELECT 'cancelled', count(*)
FROM (SELECT event.flow_id FROM event_log AS event
    WHERE event.event_type = 'flowcancelled'
    LIMIT CASE WHEN $6 IS NULL AND coalesce($3::text, 'cancelled') = 'cancelled'
        THEN $1 ELSE 0 END) AS cancelled
UNION ALL
SELECT 'completed', count(*)
FROM (SELECT event.flow_id FROM event_log AS event
    WHERE event.event_type = 'flowcompleted'
    LIMIT CASE WHEN $6 IS NULL AND $3::text = 'completed' THEN $1 ELSE 0 END) AS completed
UNION ALL
SELECT 'failed', count(*)
FROM (SELECT step.flow_id FROM workflow_step_executions AS step
    WHERE step.error IS NOT NULL
    LIMIT CASE WHEN $6::text IS NULL AND $3 = 'failed' THEN $1 ELSE 0 END) AS failed
UNION ALL
SELECT 'error', count(*)
FROM (SELECT step.flow_id FROM workflow_step_executions AS step
    WHERE step.error IS NOT NULL
        AND hashtextextended(substring(step.error ->> 'error_class' FROM '[^.]*$'), 0)
            = hashtextextended(substring($6 FROM '[^.]*$'), 0)
    LIMIT CASE WHEN $6 IS NOT NULL THEN $5 ELSE 0 END) AS failed_so

-- name: find_definitions_without_step
-- Return which of some definitions are known not to have a step: those whose artifact describes the
-- steps, as all but very large ones do.
-- $1 text[] definition_hash, $2 text id of the step
SELECT DISTINCT artifact.artifact_hash AS definition_hash
FROM workflow_step_artifacts AS artifact
WHERE artifact.artifact_hash = ANY ($1::text[])
    AND artifact.kind = 'chem_persistence.FlowDefinition'
    AND jsonb_typeof(artifact.metadata -> 'steps') = 'array'
    AND NOT artifact.metadata -> 'steps' @> jsonb_build_array(jsonb_build_object('id', $2::text))

-- name: list_definitions_of_runs
-- List the definitions of the flows that are not over and were begun for workers or by a program.
-- $1 bigint maximum number of rows
SELECT DISTINCT run.definition_hash
FROM flow_runs AS run
LIMIT $1

-- name: list_failed_flows
-- List one page of the flows that have failed and fit, made from the steps that have failed, which
-- are found by the class of the error, if one is wanted; a time outside datetime's range is null.
-- A flow with a row in flow_runs is not over. Scalar subqueries make the plan look each flow up in
-- the keys, however few rows the planner expects (by a condition that is not that of the index of
-- flows without a parent, which would be read as a whole for each flow), and OFFSET 0 keeps the
-- first event from being read of flows that do not fit by their steps; there is no time of one that
-- does not fit by it.
-- $1 timestamptz started_at and $2 uuid flow_id before which the page begins, or null for the
-- newest; $3 text definition_hash, or null for any; $4 bigint maximum number of rows; $5 boolean
-- whether flows that have a parent are left out; $6 text beginning of the label, $7 text state,
-- $8 text id of the step, $9 text class of its error (whole, or its end after a dot), and
-- $10 timestamptz first started_at, or null for any
SELECT flow_id,
    CASE WHEN started_at BETWEEN '0001-01-01 00:00:00+00' AND '9999-12-31 23:59:59.999999+00'
        THEN started_at
        END AS started_at,
    CASE WHEN last_event_at BETWEEN '0001-01-01 00:00:00+00' AND '9999-12-31 23:59:59.999999+00'
        THEN last_event_at
        END AS last_event_at,
    version, definition_hash, step_count, finished_steps, state, cursor, current_step, failure,
    name, label, parent
FROM flows
WHERE flow_id = ANY (ARRAY(
    SELECT chosen.flow_id
    FROM (
        SELECT candidate.flow_id,
            (SELECT first_event.ts FROM event_log AS first_event
                WHERE first_event.flow_id = candidate.flow_id AND first_event.version = 0
                    AND ($3::text IS NULL OR first_event.payload ->> 'definition_hash' = $3)
                    AND (NOT $5::boolean OR num_nulls(first_event.payload -> 'parent') = 1)
                    AND ($6::text IS NULL OR (
                        (first_event.payload ->> 'label') COLLATE "C" >= $6
                        AND (first_event.payload ->> 'label') COLLATE "C"
                            < $6 || U&'\+10FFFF'))) AS started_at
        FROM (
            SELECT DISTINCT step.flow_id
            FROM workflow_step_executions AS step
            WHERE step.error IS NOT NULL AND step.status = 'failed'
                AND hashtextextended(substring(step.error ->> 'error_class' FROM '[^.]*$'), 0)
                    BETWEEN coalesce(hashtextextended(substring($9::text FROM '[^.]*$'), 0),
                        -9223372036854775808)
                    AND coalesce(hashtextextended(substring($9 FROM '[^.]*$'), 0),
                        9223372036854775807)
                AND ($8::text IS NULL OR step.step_id = $8)
                AND ($9 IS NULL OR step.error ->> 'error_class' = $9
                    OR right(step.error ->> 'error_class', length($9) + 1) = '.' || $9)
        ) AS candidate
        WHERE $7::text IS NULL OR $7 = CASE
            WHEN (SELECT count(*) FROM flow_runs AS run
                WHERE run.flow_id = candidate.flow_id) > 0 THEN 'failed'
            WHEN (SELECT count(*) FROM event_log AS event
                WHERE event.flow_id = candidate.flow_id
                    AND event.event_type = 'flowcompleted') > 0 THEN 'completed'
            WHEN (SELECT count(*) FROM event_log AS event
                WHERE event.flow_id = candidate.flow_id
                    AND event.event_type = 'flowcancelled') > 0 THEN 'cancelled'
            ELSE 'failed' END
        OFFSET 0
    ) AS chosen
    WHERE (chosen.started_at, chosen.flow_id)
            < (coalesce($1::timestamptz, 'infinity'),
                coalesce($2::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff'))
        AND chosen.started_at >= coalesce($10::timestamptz, '-infinity')
    ORDER BY chosen.started_at DESC, chosen.flow_id DESC
    LIMIT $4
))
ORDER BY flows.started_at DESC, flows.flow_id DESC

-- name: list_flows
-- List one page of the newest flows that fit; a time outside datetime's range is null.
-- $1 timestamptz started_at and $2 uuid flow_id before which the page begins, or null for the
-- newest; $3 text definition_hash, or null for any; $4 bigint maximum number of rows; $5 boolean
-- whether flows that have a parent are left out; $6 text beginning of the label, $7 text state,
-- $8 text id of a step that has begun and is not finished, $9 text class of the error of a
-- failed step (whole, or its end after a dot), and $10 timestamptz first started_at, or null for
-- any; $11 bigint how many flows are looked at
SELECT flow_id,
    CASE WHEN started_at BETWEEN '0001-01-01 00:00:00+00' AND '9999-12-31 23:59:59.999999+00'
        THEN started_at
        END AS started_at,
    CASE WHEN last_event_at BETWEEN '0001-01-01 00:00:00+00' AND '9999-12-31 23:59:59.999999+00'
        THEN last_event_at
        END AS last_event_at,
    version, definition_hash, step_count, finished_steps, state, cursor, current_step, failure,
    name, label, parent
FROM flows
WHERE flow_id = ANY (ARRAY(
    SELECT walked.flow_id
    FROM (
        SELECT flows.flow_id, flows.started_at, flows.label, flows.definition_hash, flows.parent,
            CASE WHEN $7::text IS NULL THEN NULL ELSE flows.state END AS state,
            CASE WHEN $8::text IS NULL AND $9::text IS NULL THEN 1
                ELSE (SELECT count(*) FROM workflow_step_executions AS step
                    WHERE step.flow_id = flows.flow_id AND step.status <> 'finished'
                        AND ($8::text IS NULL OR step.step_id = $8)
                        AND ($9::text IS NULL OR (step.status = 'failed' AND (
                            step.error ->> 'error_class' = $9
                            OR right(step.error ->> 'error_class', length($9) + 1) = '.' || $9))))
                END AS fitting_steps
        FROM flows
        WHERE (flows.started_at, flows.flow_id)
                < (coalesce($1::timestamptz, 'infinity'),
                    coalesce($2::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff'))
            AND flows.started_at >= coalesce($10::timestamptz, '-infinity')
        ORDER BY flows.started_at DESC, flows.flow_id DESC
        LIMIT $11
    ) AS walked
    WHERE ($3::text IS NULL OR walked.definition_hash = $3)
        AND (NOT $5::boolean OR walked.parent IS NULL)
        AND ($6::text IS NULL OR (walked.label COLLATE "C" >= $6
            AND walked.label COLLATE "C" < $6 || U&'\+10FFFF'))
        AND ($7::text IS NULL OR walked.state = $7) AND walked.fitting_steps > 0
    ORDER BY walked.started_at DESC, walked.flow_id DESC
    LIMIT $4
))
ORDER BY flows.started_at DESC, flows.flow_id DESC

-- name: list_flows_by_state
-- List one page of the flows that fit, made from those that are not over, and from those that
-- were cancelled or are completed, if these may fit; a time outside datetime's range is null. Flows
-- that have failed, and those with a class of error, are listed by list_failed_flows.
-- What is not over has a row in flow_runs, unless neither workers nor a program run it. Scalar
-- subqueries make the plan look each flow up in the keys, however many or few rows the planner
-- expects (by a condition that is not that of the index of flows without a parent, which would be
-- read as a whole for each flow), and OFFSET 0 keeps the first event from being read of flows that do
-- not fit by their steps; there is no time of one that does not fit by it.
-- $1 timestamptz started_at and $2 uuid flow_id before which the page begins, or null for the
-- newest; $3 text definition_hash, or null for any; $4 bigint maximum number of rows; $5 boolean
-- whether flows that have a parent are left out; $6 text beginning of the label, $7 text state,
-- $8 text id of a step that has begun and is not finished, or null for any, $9 text that is null,
-- $10 timestamptz first started_at, or null for any, and $11 text[] definition_hash of which flows
-- are that have a row in flow_runs, or null for any
SELECT flow_id,
    CASE WHEN started_at BETWEEN '0001-01-01 00:00:00+00' AND '9999-12-31 23:59:59.999999+00'
        THEN started_at
        END AS started_at,
    CASE WHEN last_event_at BETWEEN '0001-01-01 00:00:00+00' AND '9999-12-31 23:59:59.999999+00'
        THEN last_event_at
        END AS last_event_at,
    version, definition_hash, step_count, finished_steps, state, cursor, current_step, failure,
    name, label, parent
FROM flows
WHERE flow_id = ANY (ARRAY(
    SELECT chosen.flow_id
    FROM (
        SELECT candidate.flow_id,
            (SELECT first_event.ts FROM event_log AS first_event
                WHERE first_event.flow_id = candidate.flow_id AND first_event.version = 0
                    AND ($3::text IS NULL OR first_event.payload ->> 'definition_hash' = $3)
                    AND (NOT $5::boolean OR num_nulls(first_event.payload -> 'parent') = 1)
                    AND ($6::text IS NULL OR (
                        (first_event.payload ->> 'label') COLLATE "C" >= $6
                        AND (first_event.payload ->> 'label') COLLATE "C"
                            < $6 || U&'\+10FFFF'))) AS started_at
        FROM (
            SELECT run.flow_id
            FROM flow_runs AS run
            WHERE ($3::text IS NULL OR run.definition_hash = $3)
                AND ($11::text[] IS NULL OR run.definition_hash = ANY ($11))
                AND coalesce($7::text, '') NOT IN ('cancelled', 'completed')
            UNION ALL
            SELECT first_event.flow_id
            FROM event_log AS first_event
            WHERE first_event.version = 0 AND NOT first_event.payload ? 'due'
                AND NOT first_event.metadata ? 'chem_persistence.run_by'
                AND coalesce($7::text, '') NOT IN ('cancelled', 'completed')
                AND (SELECT count(*) FROM event_log AS event
                    WHERE event.flow_id = first_event.flow_id
                        AND event.event_type = 'flowcompleted') = 0
                AND (SELECT count(*) FROM event_log AS event
                    WHERE event.flow_id = first_event.flow_id
                        AND event.event_type = 'flowcancelled') = 0
            UNION ALL
            SELECT DISTINCT event.flow_id
            FROM event_log AS event
            WHERE event.event_type = 'flowcancelled'
                AND coalesce($7::text, 'cancelled') = 'cancelled'
            UNION ALL
            SELECT DISTINCT event.flow_id
            FROM event_log AS event
            WHERE event.event_type = 'flowcompleted' AND $7::text = 'completed'
        ) AS candidate
        WHERE $9::text IS NULL AND ($8::text IS NULL
                OR (SELECT count(*) FROM workflow_step_executions AS step
                    WHERE step.flow_id = candidate.flow_id AND step.status <> 'finished'
                        AND step.step_id = $8) > 0)
            AND (coalesce($7::text, 'completed') IN ('cancelled', 'completed')
                OR (SELECT CASE $7::text
                    WHEN 'awaiting_user_input'
                    THEN count(*) FILTER (WHERE step.status = 'awaiting_user_input') > 0
                        AND count(*) FILTER (WHERE step.status = 'failed') = 0
                    WHEN 'waiting' THEN count(*) FILTER (WHERE step.status = 'waiting') > 0
                        AND count(*) FILTER (
                            WHERE step.status IN ('failed', 'awaiting_user_input')) = 0
                    WHEN 'running' THEN count(*) > 0 AND count(*) FILTER (
                        WHERE step.status IN ('failed', 'awaiting_user_input', 'waiting')) = 0
                    ELSE count(*) = 0
                    END
                FROM workflow_step_executions AS step
                WHERE step.flow_id = candidate.flow_id))
            AND (coalesce($7::text, '') <> 'cancelled' OR (SELECT count(*) FROM event_log AS event
                WHERE event.flow_id = candidate.flow_id
                    AND event.event_type = 'flowcompleted') = 0)
        OFFSET 0
    ) AS chosen
    WHERE (chosen.started_at, chosen.flow_id)
            < (coalesce($1::timestamptz, 'infinity'),
                coalesce($2::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff'))
        AND chosen.started_at >= coalesce($10::timestamptz, '-infinity')
    ORDER BY chosen.started_at DESC, chosen.flow_id DESC
    LIMIT $4
))
ORDER BY flows.started_at DESC, flows.flow_id DESC

-- name: list_flows_of_definition
-- List one page of the newest flows of a definition that fit; a time outside datetime's range is
-- null. The index has flows with and without a parent apart.
-- $1 timestamptz started_at and $2 uuid flow_id before which the page begins, or null for the
-- newest; $3 text definition_hash; $4 bigint maximum number of rows; $5 boolean whether flows
-- that have a parent are left out; $6 text beginning of the label, $7 text state, $8 text id of
-- a step that has begun and is not finished, $9 text class of the error of a failed step (whole,
-- or its end after a dot), and $10 timestamptz first started_at, or null for any; $11 bigint how
-- many flows are looked at of each kind
SELECT flow_id,
    CASE WHEN started_at BETWEEN '0001-01-01 00:00:00+00' AND '9999-12-31 23:59:59.999999+00'
        THEN started_at
        END AS started_at,
    CASE WHEN last_event_at BETWEEN '0001-01-01 00:00:00+00' AND '9999-12-31 23:59:59.999999+00'
        THEN last_event_at
        END AS last_event_at,
    version, definition_hash, step_count, finished_steps, state, cursor, current_step, failure,
    name, label, parent
FROM flows
WHERE flow_id = ANY (ARRAY(
    SELECT walked.flow_id
    FROM (
        (SELECT flows.flow_id, flows.started_at, flows.label, flows.definition_hash, flows.parent,
            CASE WHEN $7::text IS NULL THEN NULL ELSE flows.state END AS state,
            CASE WHEN $8::text IS NULL AND $9::text IS NULL THEN 1
                ELSE (SELECT count(*) FROM workflow_step_executions AS step
                    WHERE step.flow_id = flows.flow_id AND step.status <> 'finished'
                        AND ($8::text IS NULL OR step.step_id = $8)
                        AND ($9::text IS NULL OR (step.status = 'failed' AND (
                            step.error ->> 'error_class' = $9
                            OR right(step.error ->> 'error_class', length($9) + 1) = '.' || $9))))
                END AS fitting_steps
        FROM flows
        WHERE (flows.started_at, flows.flow_id)
                < (coalesce($1::timestamptz, 'infinity'),
                    coalesce($2::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff'))
            AND flows.started_at >= coalesce($10::timestamptz, '-infinity')
            AND hashtextextended(flows.definition_hash, 0) = hashtextextended($3::text, 0)
            AND num_nulls(flows.parent) = 1
        ORDER BY flows.started_at DESC, flows.flow_id DESC
        LIMIT $11)
        UNION ALL
        (SELECT flows.flow_id, flows.started_at, flows.label, flows.definition_hash, flows.parent,
            CASE WHEN $7::text IS NULL THEN NULL ELSE flows.state END AS state,
            CASE WHEN $8::text IS NULL AND $9::text IS NULL THEN 1
                ELSE (SELECT count(*) FROM workflow_step_executions AS step
                    WHERE step.flow_id = flows.flow_id AND step.status <> 'finished'
                        AND ($8::text IS NULL OR step.step_id = $8)
                        AND ($9::text IS NULL OR (step.status = 'failed' AND (
                            step.error ->> 'error_class' = $9
                            OR right(step.error ->> 'error_class', length($9) + 1) = '.' || $9))))
                END AS fitting_steps
        FROM flows
        WHERE (flows.started_at, flows.flow_id)
                < (coalesce($1::timestamptz, 'infinity'),
                    coalesce($2::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff'))
            AND flows.started_at >= coalesce($10::timestamptz, '-infinity')
            AND hashtextextended(flows.definition_hash, 0) = hashtextextended($3::text, 0)
            AND num_nulls(flows.parent) = 0
        ORDER BY flows.started_at DESC, flows.flow_id DESC
        LIMIT $11)
    ) AS walked
    WHERE ($3::text IS NULL OR walked.definition_hash = $3)
        AND (NOT $5::boolean OR walked.parent IS NULL)
        AND ($6::text IS NULL OR (walked.label COLLATE "C" >= $6
            AND walked.label COLLATE "C" < $6 || U&'\+10FFFF'))
        AND ($7::text IS NULL OR walked.state = $7) AND walked.fitting_steps > 0
    ORDER BY walked.started_at DESC, walked.flow_id DESC
    LIMIT $4
))
ORDER BY flows.started_at DESC, flows.flow_id DESC

-- name: list_labelled_flows
-- List one page of the flows whose label begins with a text, and that fit; a time outside
-- datetime's range is null. The sum keeps the plan from looking at all flows in the order of
-- their beginning.
-- $1 timestamptz started_at and $2 uuid flow_id before which the page begins, or null for the
-- newest; $3 text definition_hash, or null for any; $4 bigint maximum number of rows; $5 boolean
-- whether flows that have a parent are left out; $6 text beginning of the label; $7 text state,
-- $8 text id of a step that has begun and is not finished, $9 text class of the error of a
-- failed step (whole, or its end after a dot), and $10 timestamptz first started_at, or null for
-- any; $11 bigint how many flows are looked at
SELECT flow_id,
    CASE WHEN started_at BETWEEN '0001-01-01 00:00:00+00' AND '9999-12-31 23:59:59.999999+00'
        THEN started_at
        END AS started_at,
    CASE WHEN last_event_at BETWEEN '0001-01-01 00:00:00+00' AND '9999-12-31 23:59:59.999999+00'
        THEN last_event_at
        END AS last_event_at,
    version, definition_hash, step_count, finished_steps, state, cursor, current_step, failure,
    name, label, parent
FROM flows
WHERE flow_id = ANY (ARRAY(
    SELECT walked.flow_id
    FROM (
        SELECT first_event.flow_id, first_event.ts + interval '0' AS started_at,
            CASE WHEN $7::text IS NULL THEN NULL ELSE (SELECT flows.state FROM flows
                WHERE flows.flow_id = first_event.flow_id) END AS state,
            CASE WHEN $8::text IS NULL AND $9::text IS NULL THEN 1
                ELSE (SELECT count(*) FROM workflow_step_executions AS step
                    WHERE step.flow_id = first_event.flow_id AND step.status <> 'finished'
                        AND ($8::text IS NULL OR step.step_id = $8)
                        AND ($9::text IS NULL OR (step.status = 'failed' AND (
                            step.error ->> 'error_class' = $9
                            OR right(step.error ->> 'error_class', length($9) + 1) = '.' || $9))))
                END AS fitting_steps
        FROM event_log AS first_event
        WHERE (first_event.ts, first_event.flow_id)
                < (coalesce($1::timestamptz, 'infinity'),
                    coalesce($2::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff'))
            AND first_event.ts >= coalesce($10::timestamptz, '-infinity')
            AND first_event.version = 0 AND first_event.payload ? 'label'
            AND (first_event.payload ->> 'label') COLLATE "C" >= $6::text
            AND (first_event.payload ->> 'label') COLLATE "C" < $6::text || U&'\+10FFFF'
            AND ($3::text IS NULL OR first_event.payload ->> 'definition_hash' = $3)
            AND (NOT $5::boolean OR first_event.payload -> 'parent' IS NULL)
        ORDER BY first_event.ts + interval '0' DESC, first_event.flow_id DESC
        LIMIT $11
    ) AS walked
    WHERE ($7::text IS NULL OR walked.state = $7) AND walked.fitting_steps > 0
    ORDER BY walked.started_at DESC, walked.flow_id DESC
    LIMIT $4
))
ORDER BY flows.started_at DESC, flows.flow_id DESC

-- name: list_root_flows
-- List one page of the newest flows that have no parent and fit; a time outside datetime's range
-- is null.
-- $1 timestamptz started_at and $2 uuid flow_id before which the page begins, or null for the
-- newest; $3 text definition_hash, or null for any; $4 bigint maximum number of rows; $5 boolean
-- that is true; $6 text beginning of the label, $7 text state, $8 text id of a step that has
-- begun and is not finished, $9 text class of the error of a failed step (whole, or its end
-- after a dot), and $10 timestamptz first started_at, or null for any; $11 bigint how many flows
-- are looked at
SELECT flow_id,
    CASE WHEN started_at BETWEEN '0001-01-01 00:00:00+00' AND '9999-12-31 23:59:59.999999+00'
        THEN started_at
        END AS started_at,
    CASE WHEN last_event_at BETWEEN '0001-01-01 00:00:00+00' AND '9999-12-31 23:59:59.999999+00'
        THEN last_event_at
        END AS last_event_at,
    version, definition_hash, step_count, finished_steps, state, cursor, current_step, failure,
    name, label, parent
FROM flows
WHERE flow_id = ANY (ARRAY(
    SELECT walked.flow_id
    FROM (
        SELECT flows.flow_id, flows.started_at, flows.label, flows.definition_hash, flows.parent,
            CASE WHEN $7::text IS NULL THEN NULL ELSE flows.state END AS state,
            CASE WHEN $8::text IS NULL AND $9::text IS NULL THEN 1
                ELSE (SELECT count(*) FROM workflow_step_executions AS step
                    WHERE step.flow_id = flows.flow_id AND step.status <> 'finished'
                        AND ($8::text IS NULL OR step.step_id = $8)
                        AND ($9::text IS NULL OR (step.status = 'failed' AND (
                            step.error ->> 'error_class' = $9
                            OR right(step.error ->> 'error_class', length($9) + 1) = '.' || $9))))
                END AS fitting_steps
        FROM flows
        WHERE (flows.started_at, flows.flow_id)
                < (coalesce($1::timestamptz, 'infinity'),
                    coalesce($2::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff'))
            AND flows.started_at >= coalesce($10::timestamptz, '-infinity')
            AND flows.parent IS NULL
        ORDER BY flows.started_at DESC, flows.flow_id DESC
        LIMIT $11
    ) AS walked
    WHERE ($3::text IS NULL OR walked.definition_hash = $3)
        AND (NOT $5::boolean OR walked.parent IS NULL)
        AND ($6::text IS NULL OR (walked.label COLLATE "C" >= $6
            AND walked.label COLLATE "C" < $6 || U&'\+10FFFF'))
        AND ($7::text IS NULL OR walked.state = $7) AND walked.fitting_steps > 0
    ORDER BY walked.started_at DESC, walked.flow_id DESC
    LIMIT $4
))
ORDER BY flows.started_at DESC, flows.flow_id DESC

-- name: list_root_flows_of_definition
-- List one page of the newest flows of a definition that have no parent and fit; a time outside
-- datetime's range is null.
-- $1 timestamptz started_at and $2 uuid flow_id before which the page begins, or null for the
-- newest; $3 text definition_hash; $4 bigint maximum number of rows; $5 boolean that is true;
-- $6 text beginning of the label, $7 text state, $8 text id of a step that has begun and is not
-- finished, $9 text class of the error of a failed step (whole, or its end after a dot), and
-- $10 timestamptz first started_at, or null for any; $11 bigint how many flows are looked at
SELECT flow_id,
    CASE WHEN started_at BETWEEN '0001-01-01 00:00:00+00' AND '9999-12-31 23:59:59.999999+00'
        THEN started_at
        END AS started_at,
    CASE WHEN last_event_at BETWEEN '0001-01-01 00:00:00+00' AND '9999-12-31 23:59:59.999999+00'
        THEN last_event_at
        END AS last_event_at,
    version, definition_hash, step_count, finished_steps, state, cursor, current_step, failure,
    name, label, parent
FROM flows
WHERE flow_id = ANY (ARRAY(
    SELECT walked.flow_id
    FROM (
        SELECT flows.flow_id, flows.started_at, flows.label, flows.definition_hash, flows.parent,
            CASE WHEN $7::text IS NULL THEN NULL ELSE flows.state END AS state,
            CASE WHEN $8::text IS NULL AND $9::text IS NULL THEN 1
                ELSE (SELECT count(*) FROM workflow_step_executions AS step
                    WHERE step.flow_id = flows.flow_id AND step.status <> 'finished'
                        AND ($8::text IS NULL OR step.step_id = $8)
                        AND ($9::text IS NULL OR (step.status = 'failed' AND (
                            step.error ->> 'error_class' = $9
                            OR right(step.error ->> 'error_class', length($9) + 1) = '.' || $9))))
                END AS fitting_steps
        FROM flows
        WHERE (flows.started_at, flows.flow_id)
                < (coalesce($1::timestamptz, 'infinity'),
                    coalesce($2::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff'))
            AND flows.started_at >= coalesce($10::timestamptz, '-infinity')
            AND hashtextextended(flows.definition_hash, 0) = hashtextextended($3::text, 0)
            AND num_nulls(flows.parent) = 1
        ORDER BY flows.started_at DESC, flows.flow_id DESC
        LIMIT $11
    ) AS walked
    WHERE ($3::text IS NULL OR walked.definition_hash = $3)
        AND (NOT $5::boolean OR walked.parent IS NULL)
        AND ($6::text IS NULL OR (walked.label COLLATE "C" >= $6
            AND walked.label COLLATE "C" < $6 || U&'\+10FFFF'))
        AND ($7::text IS NULL OR walked.state = $7) AND walked.fitting_steps > 0
    ORDER BY walked.started_at DESC, walked.flow_id DESC
    LIMIT $4
))
ORDER BY flows.started_at DESC, flows.flow_id DESC

-- name: read_flow
-- Read one flow; a time outside datetime's range is null.
-- $1 uuid flow_id
SELECT flow_id,
    CASE WHEN started_at BETWEEN '0001-01-01 00:00:00+00' AND '9999-12-31 23:59:59.999999+00'
        THEN started_at
        END AS started_at,
    CASE WHEN last_event_at BETWEEN '0001-01-01 00:00:00+00' AND '9999-12-31 23:59:59.999999+00'
        THEN last_event_at
        END AS last_event_at,
    version, definition_hash, step_count, finished_steps, state, cursor, current_step, failure,
    name, label, parent
FROM flows
WHERE flow_id = $1

-- name: read_flows
-- Read flows; a time outside datetime's range is null.
-- $1 uuid[] flow_id
SELECT flow_id,
    CASE WHEN started_at BETWEEN '0001-01-01 00:00:00+00' AND '9999-12-31 23:59:59.999999+00'
        THEN started_at
        END AS started_at,
    CASE WHEN last_event_at BETWEEN '0001-01-01 00:00:00+00' AND '9999-12-31 23:59:59.999999+00'
        THEN last_event_at
        END AS last_event_at,
    version, definition_hash, step_count, finished_steps, state, cursor, current_step, failure,
    name, label, parent
FROM flows
WHERE flow_id = ANY ($1::uuid[])
