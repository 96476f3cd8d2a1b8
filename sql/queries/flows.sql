-- Read flows with their states, in pages.

-- name: list_awaiting_flows
-- List one page of the flows that wait for a user's answer, the newest first; a time outside
-- datetime's range is null.
-- $1 timestamptz started_at and $2 uuid flow_id before which the page begins, or null for the
-- newest; $3 text definition_hash, or null for any; $4 bigint maximum number of rows; $5 boolean
-- whether flows that have a parent are left out
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
WHERE (flows.started_at, flows.flow_id)
        < (coalesce($1::timestamptz, 'infinity'),
            coalesce($2::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff'))
    AND state = 'awaiting_user_input' AND flow_id IN (SELECT event.flow_id FROM event_log AS event
        WHERE event.event_type = 'userinteractionrequested')
    AND ($3::text IS NULL OR definition_hash = $3)
    AND (NOT $5::boolean OR parent IS NULL)
ORDER BY flows.started_at DESC, flows.flow_id DESC
LIMIT $4

-- name: list_cancelled_flows
-- List one page of the cancelled flows, the newest first; a time outside datetime's range is null.
-- $1 timestamptz started_at and $2 uuid flow_id before which the page begins, or null for the
-- newest; $3 text definition_hash, or null for any; $4 bigint maximum number of rows; $5 boolean
-- whether flows that have a parent are left out
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
WHERE (flows.started_at, flows.flow_id)
        < (coalesce($1::timestamptz, 'infinity'),
            coalesce($2::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff'))
    AND state = 'cancelled' AND flow_id IN (SELECT event.flow_id FROM event_log AS event
        WHERE event.event_type = 'flowcancelled')
    AND ($3::text IS NULL OR definition_hash = $3)
    AND (NOT $5::boolean OR parent IS NULL)
ORDER BY flows.started_at DESC, flows.flow_id DESC
LIMIT $4

-- name: list_completed_flows
-- List one page of the completed flows, the newest first; a time outside datetime's range is null.
-- $1 timestamptz started_at and $2 uuid flow_id before which the page begins, or null for the
-- newest; $3 text definition_hash, or null for any; $4 bigint maximum number of rows; $5 boolean
-- whether flows that have a parent are left out
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
WHERE (flows.started_at, flows.flow_id)
        < (coalesce($1::timestamptz, 'infinity'),
            coalesce($2::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff'))
    AND flow_id IN (SELECT event.flow_id FROM event_log AS event
        WHERE event.event_type = 'flowcompleted')
    AND ($3::text IS NULL OR definition_hash = $3)
    AND (NOT $5::boolean OR parent IS NULL)
ORDER BY flows.started_at DESC, flows.flow_id DESC
LIMIT $4

-- name: list_failed_flows
-- List one page of the flows with a failed step, the newest first; a time outside datetime's range
-- is null.
-- $1 timestamptz started_at and $2 uuid flow_id before which the page begins, or null for the
-- newest; $3 text definition_hash, or null for any; $4 bigint maximum number of rows; $5 boolean
-- whether flows that have a parent are left out
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
WHERE (flows.started_at, flows.flow_id)
        < (coalesce($1::timestamptz, 'infinity'),
            coalesce($2::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff'))
    AND state = 'failed' AND flow_id IN (
        SELECT event.flow_id FROM event_log AS event WHERE event.event_type = 'stepfailed')
    AND ($3::text IS NULL OR definition_hash = $3)
    AND (NOT $5::boolean OR parent IS NULL)
ORDER BY flows.started_at DESC, flows.flow_id DESC
LIMIT $4

-- name: list_flows
-- List one page of all flows, the newest first; a time outside datetime's range is null.
-- $1 timestamptz started_at and $2 uuid flow_id before which the page begins, or null for the
-- newest; $3 text definition_hash, or null for any; $4 bigint maximum number of rows; $5 boolean
-- whether flows that have a parent are left out
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
WHERE (flows.started_at, flows.flow_id)
        < (coalesce($1::timestamptz, 'infinity'),
            coalesce($2::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff'))
    AND ($3::text IS NULL OR definition_hash = $3)
    AND (NOT $5::boolean OR parent IS NULL)
ORDER BY flows.started_at DESC, flows.flow_id DESC
LIMIT $4

-- name: list_labelled_flows
-- List one page of the flows whose label begins with a text, the newest first; a time outside
-- datetime's range is null.
-- $1 timestamptz started_at and $2 uuid flow_id before which the page begins, or null for the
-- newest; $3 text definition_hash, or null for any; $4 bigint maximum number of rows; $5 boolean
-- whether flows that have a parent are left out; $6 text beginning of the label; $7 text state, or
-- null for any
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
WHERE (flows.started_at, flows.flow_id)
        < (coalesce($1::timestamptz, 'infinity'),
            coalesce($2::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff'))
    AND flow_id IN (SELECT first_event.flow_id FROM event_log AS first_event
        WHERE first_event.version = 0 AND first_event.payload ? 'label'
            AND (first_event.payload ->> 'label') COLLATE "C" >= $6::text
            AND (first_event.payload ->> 'label') COLLATE "C" < $6::text || U&'\+10FFFF')
    AND ($7::text IS NULL OR state = $7)
    AND ($3::text IS NULL OR definition_hash = $3)
    AND (NOT $5::boolean OR parent IS NULL)
ORDER BY flows.started_at DESC, flows.flow_id DESC
LIMIT $4

-- name: list_pending_flows
-- List one page of the flows of which no step has begun, the newest first; a time outside
-- datetime's range is null.
-- $1 timestamptz started_at and $2 uuid flow_id before which the page begins, or null for the
-- newest; $3 text definition_hash, or null for any; $4 bigint maximum number of rows; $5 boolean
-- whether flows that have a parent are left out
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
WHERE (flows.started_at, flows.flow_id)
        < (coalesce($1::timestamptz, 'infinity'),
            coalesce($2::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff'))
    AND state = 'pending' AND flow_id IN (SELECT first_event.flow_id FROM event_log AS first_event
        WHERE first_event.version = 0
            AND NOT EXISTS (SELECT 1 FROM event_log AS event
                WHERE event.flow_id = first_event.flow_id AND event.event_type = 'flowcompleted')
            AND NOT EXISTS (SELECT 1 FROM event_log AS event
                WHERE event.flow_id = first_event.flow_id AND event.event_type = 'flowcancelled'))
    AND ($3::text IS NULL OR definition_hash = $3)
    AND (NOT $5::boolean OR parent IS NULL)
ORDER BY flows.started_at DESC, flows.flow_id DESC
LIMIT $4

-- name: list_root_flows
-- List one page of the flows that have no parent, the newest first; a time outside datetime's range
-- is null.
-- $1 timestamptz started_at and $2 uuid flow_id before which the page begins, or null for the
-- newest; $3 text definition_hash, or null for any; $4 bigint maximum number of rows; $5 boolean
-- that is true
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
WHERE (flows.started_at, flows.flow_id)
        < (coalesce($1::timestamptz, 'infinity'),
            coalesce($2::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff'))
    AND ($3::text IS NULL OR definition_hash = $3)
    AND parent IS NULL AND $5::boolean
ORDER BY flows.started_at DESC, flows.flow_id DESC
LIMIT $4

-- name: list_running_flows
-- List one page of the running flows, the newest first; a time outside datetime's range is null.
-- $1 timestamptz started_at and $2 uuid flow_id before which the page begins, or null for the
-- newest; $3 text definition_hash, or null for any; $4 bigint maximum number of rows; $5 boolean
-- whether flows that have a parent are left out
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
WHERE (flows.started_at, flows.flow_id)
        < (coalesce($1::timestamptz, 'infinity'),
            coalesce($2::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff'))
    AND state = 'running' AND flow_id IN (SELECT first_event.flow_id FROM event_log AS first_event
        WHERE first_event.version = 0
            AND NOT EXISTS (SELECT 1 FROM event_log AS event
                WHERE event.flow_id = first_event.flow_id AND event.event_type = 'flowcompleted')
            AND NOT EXISTS (SELECT 1 FROM event_log AS event
                WHERE event.flow_id = first_event.flow_id AND event.event_type = 'flowcancelled'))
    AND ($3::text IS NULL OR definition_hash = $3)
    AND (NOT $5::boolean OR parent IS NULL)
ORDER BY flows.started_at DESC, flows.flow_id DESC
LIMIT $4

-- name: list_waiting_flows
-- List one page of the flows that wait for a time or an event, the newest first; a time outside
-- datetime's range is null.
-- $1 timestamptz started_at and $2 uuid flow_id before which the page begins, or null for the
-- newest; $3 text definition_hash, or null for any; $4 bigint maximum number of rows; $5 boolean
-- whether flows that have a parent are left out
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
WHERE (flows.started_at, flows.flow_id)
        < (coalesce($1::timestamptz, 'infinity'),
            coalesce($2::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff'))
    AND state = 'waiting' AND flow_id IN (SELECT event.flow_id FROM event_log AS event
        WHERE event.event_type = 'stepwaits')
    AND ($3::text IS NULL OR definition_hash = $3)
    AND (NOT $5::boolean OR parent IS NULL)
ORDER BY flows.started_at DESC, flows.flow_id DESC
LIMIT $4

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
