-- Read what became of flows, with the hashes of their inputs and of the output of one step.

-- name: list_invalidated
-- List the results of flows that were declared invalid, by the versions of their events. The type
-- of the event is compared within CASE, as in `list_outcomes`.
-- $1 uuid[] flow_id
SELECT DISTINCT finished.flow_id, finished.version
FROM event_log AS signal
JOIN event_log AS finished
    ON finished.flow_id = signal.flow_id AND finished.version < signal.version
WHERE signal.flow_id = ANY ($1::uuid[]) AND signal.event_type = 'stepsignal'
    AND signal.payload ->> 'signal' = 'chem_persistence.invalidated'
    AND CASE WHEN finished.event_type = 'stepfinished'
        THEN finished.payload -> 'step_index' = signal.payload -> 'step_index'
        ELSE false END

-- name: list_labelled_outcomes
-- List one page of the flows with a label as `list_outcomes` does. They are found by the index of
-- labels, in which those of one label are in the order of their beginning.
-- $1 text step_id, or null for the last step; $2 timestamptz started_at and $3 uuid flow_id before
-- which the page begins, or null for the newest; $6 text label; $4 text name,
-- $5 text definition_hash and $7 timestamptz first started_at, or null for any; $8 text state that the
-- flows of $9 text definition_hash have, or null for any; $10 bigint maximum number of rows
SELECT flow.flow_id,
    CASE WHEN flow.started_at BETWEEN '0001-01-01 00:00:00+00' AND '9999-12-31 23:59:59.999999+00'
        THEN flow.started_at
        END AS started_at,
    flow.state, flow.definition_hash, flow.label, flow.failure,
    first_event.payload ->> 'input' AS input,
    (SELECT jsonb_build_object('output', event.payload #> '{outputs,0}', 'version', event.version,
            'reused_from', event.payload -> 'reused_from') FROM event_log AS event
        WHERE event.flow_id = flow.flow_id
            AND CASE WHEN event.event_type <> 'stepfinished' THEN false
                WHEN $1::text IS NULL
                THEN (event.payload ->> 'step_index')::bigint = flow.step_count - 1
                ELSE event.payload ->> 'step_id' = $1 END
        ORDER BY event.version DESC LIMIT 1) AS result,
    (SELECT step.step_id FROM workflow_step_executions AS step
        WHERE step.flow_id = flow.flow_id AND step.status = 'failed'
        ORDER BY step.step_index DESC LIMIT 1) AS failed_step
FROM flows AS flow
JOIN event_log AS first_event
    ON first_event.flow_id = flow.flow_id AND first_event.version = 0
WHERE (first_event.ts, first_event.flow_id)
        < (coalesce($2::timestamptz, 'infinity'),
            coalesce($3::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff'))
    AND first_event.ts >= coalesce($7::timestamptz, '-infinity')
    AND ($4::text IS NULL OR flow.name = $4)
    AND ($5::text IS NULL OR flow.definition_hash = $5)
    AND first_event.payload ? 'label' AND (first_event.payload ->> 'label') COLLATE "C" = $6::text
    AND ($8::text IS NULL OR flow.definition_hash IS DISTINCT FROM $9::text OR flow.state = $8)
ORDER BY first_event.ts DESC, first_event.flow_id DESC
LIMIT $10

-- name: list_named_outcomes
-- List one page of the flows with a name as `list_outcomes` does. They are found by the index of
-- names.
-- $1 text step_id, or null for the last step; $2 timestamptz started_at and $3 uuid flow_id before
-- which the page begins, or null for the newest; $4 text name; $5 text definition_hash,
-- $6 text label and $7 timestamptz first started_at, or null for any; $8 text state that the
-- flows of $9 text definition_hash have, or null for any; $10 bigint maximum number of rows
SELECT flow.flow_id,
    CASE WHEN flow.started_at BETWEEN '0001-01-01 00:00:00+00' AND '9999-12-31 23:59:59.999999+00'
        THEN flow.started_at
        END AS started_at,
    flow.state, flow.definition_hash, flow.label, flow.failure,
    first_event.payload ->> 'input' AS input,
    (SELECT jsonb_build_object('output', event.payload #> '{outputs,0}', 'version', event.version,
            'reused_from', event.payload -> 'reused_from') FROM event_log AS event
        WHERE event.flow_id = flow.flow_id
            AND CASE WHEN event.event_type <> 'stepfinished' THEN false
                WHEN $1::text IS NULL
                THEN (event.payload ->> 'step_index')::bigint = flow.step_count - 1
                ELSE event.payload ->> 'step_id' = $1 END
        ORDER BY event.version DESC LIMIT 1) AS result,
    (SELECT step.step_id FROM workflow_step_executions AS step
        WHERE step.flow_id = flow.flow_id AND step.status = 'failed'
        ORDER BY step.step_index DESC LIMIT 1) AS failed_step
FROM flows AS flow
JOIN event_log AS first_event
    ON first_event.flow_id = flow.flow_id AND first_event.version = 0
WHERE (first_event.ts, first_event.flow_id)
        < (coalesce($2::timestamptz, 'infinity'),
            coalesce($3::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff'))
    AND first_event.ts >= coalesce($7::timestamptz, '-infinity')
    AND ($5::text IS NULL OR flow.definition_hash = $5)
    AND ($6::text IS NULL OR flow.label = $6)
    AND first_event.payload ? 'name'
    AND hashtextextended(first_event.payload ->> 'name', 0) = hashtextextended($4::text, 0)
    AND first_event.payload ->> 'name' = $4
    AND ($8::text IS NULL OR flow.definition_hash IS DISTINCT FROM $9::text OR flow.state = $8)
ORDER BY first_event.ts DESC, first_event.flow_id DESC
LIMIT $10

-- name: list_outcomes
-- List one page of flows, the newest first, with the result of one of their steps, or of the last
-- one: its first output, its event, and where that took it from; a time outside datetime's range is
-- null.
-- The type of the event is compared within CASE, which keeps the planner from reading an index of
-- all results beside the one of the flow.
-- $1 text step_id, or null for the last step; $2 timestamptz started_at and $3 uuid flow_id before
-- which the page begins, or null for the newest; $4 text name, $5 text definition_hash, $6 text
-- label and $7 timestamptz first started_at, or null for any; $8 text state that the
-- flows of $9 text definition_hash have, or null for any; $10 bigint maximum number of rows
SELECT flow.flow_id,
    CASE WHEN flow.started_at BETWEEN '0001-01-01 00:00:00+00' AND '9999-12-31 23:59:59.999999+00'
        THEN flow.started_at
        END AS started_at,
    flow.state, flow.definition_hash, flow.label, flow.failure,
    first_event.payload ->> 'input' AS input,
    (SELECT jsonb_build_object('output', event.payload #> '{outputs,0}', 'version', event.version,
            'reused_from', event.payload -> 'reused_from') FROM event_log AS event
        WHERE event.flow_id = flow.flow_id
            AND CASE WHEN event.event_type <> 'stepfinished' THEN false
                WHEN $1::text IS NULL
                THEN (event.payload ->> 'step_index')::bigint = flow.step_count - 1
                ELSE event.payload ->> 'step_id' = $1 END
        ORDER BY event.version DESC LIMIT 1) AS result,
    (SELECT step.step_id FROM workflow_step_executions AS step
        WHERE step.flow_id = flow.flow_id AND step.status = 'failed'
        ORDER BY step.step_index DESC LIMIT 1) AS failed_step
FROM flows AS flow
JOIN event_log AS first_event
    ON first_event.flow_id = flow.flow_id AND first_event.version = 0
WHERE (flow.started_at, flow.flow_id)
        < (coalesce($2::timestamptz, 'infinity'),
            coalesce($3::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff'))
    AND flow.started_at >= coalesce($7::timestamptz, '-infinity')
    AND ($4::text IS NULL OR flow.name = $4)
    AND ($5::text IS NULL OR flow.definition_hash = $5)
    AND ($6::text IS NULL OR flow.label = $6)
    AND ($8::text IS NULL OR flow.definition_hash IS DISTINCT FROM $9::text OR flow.state = $8)
ORDER BY flow.started_at DESC, flow.flow_id DESC
LIMIT $10

-- name: read_outcomes
-- Read flows, with the result of one of their steps, or of the last one, as in `list_outcomes`; a
-- time outside datetime's range is null. The type of the event is compared within CASE, as there.
-- $1 uuid[] flow_id, $2 text step_id, or null for the last step
SELECT flow.flow_id,
    CASE WHEN flow.started_at BETWEEN '0001-01-01 00:00:00+00' AND '9999-12-31 23:59:59.999999+00'
        THEN flow.started_at
        END AS started_at,
    flow.state, flow.definition_hash, flow.label, flow.failure,
    first_event.payload ->> 'input' AS input,
    (SELECT jsonb_build_object('output', event.payload #> '{outputs,0}', 'version', event.version,
            'reused_from', event.payload -> 'reused_from') FROM event_log AS event
        WHERE event.flow_id = flow.flow_id
            AND CASE WHEN event.event_type <> 'stepfinished' THEN false
                WHEN $2::text IS NULL
                THEN (event.payload ->> 'step_index')::bigint = flow.step_count - 1
                ELSE event.payload ->> 'step_id' = $2 END
        ORDER BY event.version DESC LIMIT 1) AS result,
    (SELECT step.step_id FROM workflow_step_executions AS step
        WHERE step.flow_id = flow.flow_id AND step.status = 'failed'
        ORDER BY step.step_index DESC LIMIT 1) AS failed_step
FROM flows AS flow
JOIN event_log AS first_event
    ON first_event.flow_id = flow.flow_id AND first_event.version = 0
WHERE flow.flow_id = ANY ($1::uuid[]) AND first_event.flow_id = ANY ($1::uuid[])
