-- Find flows and artifacts by the first characters of an id or a hash.

-- name: describe_artifacts
-- Describe artifacts without reading their bodies; on Citus, where each flow has a row of its own,
-- by the one that was stored first.
-- $1 text[] artifact_hash
SELECT DISTINCT ON (artifact.artifact_hash) artifact.artifact_hash AS hash, artifact.kind,
    artifact.media_type,
    coalesce(artifact.content_size, CASE WHEN NOT artifact.content_is_payload
        THEN octet_length(artifact.content) END) AS content_bytes,
    convert_to(artifact.metadata::text, 'UTF8') AS metadata,
    artifact.flow_id, event.version, event.ts
FROM workflow_step_artifacts AS artifact
LEFT JOIN event_log AS event
    ON event.flow_id = artifact.flow_id AND event.seq = artifact.produced_in_seq
WHERE artifact.artifact_hash = ANY ($1::text[])
ORDER BY artifact.artifact_hash, artifact.produced_in_seq

-- name: describe_flow_artifacts
-- Describe the artifacts with some hashes and those that were stored with events of a flow, each
-- with the event that it was stored with; on Citus the flow's own row comes before another one. A
-- time outside datetime's range is null.
-- $1 uuid flow_id, $2 text[] artifact_hash
SELECT DISTINCT ON (artifact.artifact_hash) artifact.artifact_hash AS hash, artifact.kind,
    artifact.media_type,
    coalesce(artifact.content_size, octet_length(artifact.content)) AS content_bytes,
    convert_to(artifact.metadata::text, 'UTF8') AS metadata,
    artifact.flow_id, event.version, event.event_type, event.payload ->> 'step_id' AS step_id,
    CASE WHEN event.ts BETWEEN '0001-01-01 00:00:00+00' AND '9999-12-31 23:59:59.999999+00'
        THEN event.ts END AS ts
FROM workflow_step_artifacts AS artifact
LEFT JOIN event_log AS event
    ON event.flow_id = artifact.flow_id AND event.seq = artifact.produced_in_seq
WHERE artifact.flow_id = $1 OR artifact.artifact_hash = ANY ($2::text[])
ORDER BY artifact.artifact_hash, artifact.flow_id = $1 DESC

-- name: find_artifacts
-- Return the artifacts whose hashes are in a range, each once.
-- $1 text first, $2 text last, $3 bigint maximum number of rows
SELECT DISTINCT artifact_hash
FROM workflow_step_artifacts
WHERE artifact_hash BETWEEN $1 AND $2
ORDER BY artifact_hash
LIMIT $3

-- name: find_definitions
-- Find the hashes of flow definitions by a range, in a log that is distributed, where no recursive
-- query runs: every first event is read.
-- $1 text first, $2 text last, $3 bigint rows at most
SELECT DISTINCT payload ->> 'definition_hash' AS definition_hash
FROM event_log
WHERE version = 0 AND payload ->> 'definition_hash' BETWEEN $1 AND $2
ORDER BY definition_hash
LIMIT $3

-- name: find_flows
-- Return the flows whose ids are in a range.
-- $1 uuid first, $2 uuid last, $3 bigint maximum number of rows
SELECT flow_id
FROM event_log
WHERE version = 0 AND flow_id BETWEEN $1 AND $2
ORDER BY flow_id
LIMIT $3

-- name: find_naming_events
-- Return the first event of a flow that names an artifact, as an output of a step or as the flow's
-- input, pair by pair: the events of a flow that was archived and imported have other numbers than
-- the one that the artifact was stored with. A time outside datetime's range is null.
-- $1 uuid[] flow_id, $2 text[] artifact_hash
SELECT DISTINCT ON (asked.flow_id, asked.artifact_hash) asked.flow_id, asked.artifact_hash,
    event.version,
    CASE WHEN event.ts BETWEEN '0001-01-01 00:00:00+00' AND '9999-12-31 23:59:59.999999+00'
        THEN event.ts END AS ts
FROM unnest($1::uuid[], $2::text[]) AS asked (flow_id, artifact_hash)
JOIN event_log AS event ON event.flow_id = asked.flow_id
WHERE (event.event_type = 'stepfinished'
        AND event.payload -> 'outputs' @> to_jsonb(asked.artifact_hash))
    OR (event.event_type = 'flowinitialized'
        AND event.payload ->> 'input' = asked.artifact_hash)
ORDER BY asked.flow_id, asked.artifact_hash, event.version

-- name: list_artifacts
-- Describe the artifacts that were stored last, the newest first; a time outside datetime's range
-- is null. They are found by the events with which they were stored, by a range of one number: the
-- planner expects so few of two equalities that it reads all artifacts.
-- $1 text kind, or null for any; $2 bigint maximum number of rows
SELECT artifact.artifact_hash AS hash, artifact.kind, artifact.media_type,
    coalesce(artifact.content_size, CASE WHEN NOT artifact.content_is_payload
        THEN octet_length(artifact.content) END) AS content_bytes,
    convert_to(artifact.metadata::text, 'UTF8') AS metadata,
    artifact.flow_id, event.version,
    CASE WHEN event.ts BETWEEN '0001-01-01 00:00:00+00' AND '9999-12-31 23:59:59.999999+00'
        THEN event.ts END AS ts
FROM event_log AS event
JOIN workflow_step_artifacts AS artifact
    ON artifact.flow_id = event.flow_id
        AND artifact.produced_in_seq BETWEEN event.seq AND event.seq
WHERE $1::text IS NULL OR artifact.kind = $1
ORDER BY event.seq DESC, artifact.artifact_hash
LIMIT $2

-- name: list_artifacts_of_flow
-- Describe the artifacts that were stored with a flow's events, the newest first; a time outside
-- datetime's range is null.
-- $1 text kind, or null for any; $2 bigint maximum number of rows; $3 uuid flow_id
SELECT artifact.artifact_hash AS hash, artifact.kind, artifact.media_type,
    coalesce(artifact.content_size, CASE WHEN NOT artifact.content_is_payload
        THEN octet_length(artifact.content) END) AS content_bytes,
    convert_to(artifact.metadata::text, 'UTF8') AS metadata,
    artifact.flow_id, event.version,
    CASE WHEN event.ts BETWEEN '0001-01-01 00:00:00+00' AND '9999-12-31 23:59:59.999999+00'
        THEN event.ts END AS ts
FROM event_log AS event
JOIN workflow_step_artifacts AS artifact
    ON artifact.flow_id = event.flow_id AND artifact.produced_in_seq = event.seq
WHERE artifact.flow_id = $3 AND ($1::text IS NULL OR artifact.kind = $1)
ORDER BY event.seq DESC, artifact.artifact_hash
LIMIT $2

-- name: list_kept_artifacts_of_flow
-- Describe the artifacts that a flow had stored when it was archived, and that stayed, the newest
-- first: no event has the number of theirs, also if the flow was imported again.
-- $1 text kind, or null for any; $2 bigint maximum number of rows; $3 uuid flow_id
SELECT artifact.artifact_hash AS hash, artifact.kind, artifact.media_type,
    coalesce(artifact.content_size, CASE WHEN NOT artifact.content_is_payload
        THEN octet_length(artifact.content) END) AS content_bytes,
    convert_to(artifact.metadata::text, 'UTF8') AS metadata,
    artifact.flow_id, NULL::integer AS version, NULL::timestamptz AS ts
FROM workflow_step_artifacts AS artifact
WHERE artifact.flow_id = $3 AND ($1::text IS NULL OR artifact.kind = $1)
    AND (SELECT count(*) FROM event_log AS event
        WHERE event.flow_id = $3 AND event.seq = artifact.produced_in_seq) = 0
ORDER BY artifact.produced_in_seq DESC, artifact.artifact_hash
LIMIT $2

-- name: list_kept_artifacts_of_flows
-- Describe the artifacts that flows had stored when they were archived, and that stayed: those of the
-- flow that is named first come first, of a flow the newest first; for a log that is distributed,
-- where no query looks up flow by flow. `has_events` is 1 if the flow was imported again, else 0.
-- $1 text kind, or null for any; $2 bigint maximum number of rows; $3 uuid[] flow_id
SELECT artifact.artifact_hash AS hash, artifact.kind, artifact.media_type,
    coalesce(artifact.content_size, CASE WHEN NOT artifact.content_is_payload
        THEN octet_length(artifact.content) END) AS content_bytes,
    convert_to(artifact.metadata::text, 'UTF8') AS metadata,
    artifact.flow_id, NULL::integer AS version, NULL::timestamptz AS ts,
    (SELECT count(*) FROM event_log AS beginning
        WHERE beginning.flow_id = artifact.flow_id AND beginning.version = 0) AS has_events
FROM workflow_step_artifacts AS artifact
WHERE artifact.flow_id = ANY ($3::uuid[]) AND ($1::text IS NULL OR artifact.kind = $1)
    AND (SELECT count(*) FROM event_log AS event
        WHERE event.flow_id = artifact.flow_id AND event.seq = artifact.produced_in_seq) = 0
ORDER BY array_position($3::uuid[], artifact.flow_id), artifact.produced_in_seq DESC,
    artifact.artifact_hash
LIMIT $2

-- name: walk_definitions
-- Find the hashes of flow definitions by a range: one look into the index of definitions for each
-- definition, however many flows it has.
-- $1 text first, $2 text last, $3 bigint rows at most
WITH RECURSIVE walked AS (
    (SELECT hashtextextended(first_event.payload ->> 'definition_hash', 0) AS number,
        first_event.payload ->> 'definition_hash' AS definition_hash
    FROM event_log AS first_event
    WHERE first_event.version = 0
    ORDER BY hashtextextended(first_event.payload ->> 'definition_hash', 0)
    LIMIT 1)
    UNION ALL
    SELECT following.number, following.definition_hash
    FROM walked
    CROSS JOIN LATERAL (
        SELECT hashtextextended(first_event.payload ->> 'definition_hash', 0) AS number,
            first_event.payload ->> 'definition_hash' AS definition_hash
        FROM event_log AS first_event
        WHERE first_event.version = 0
            AND hashtextextended(first_event.payload ->> 'definition_hash', 0) > walked.number
        ORDER BY hashtextextended(first_event.payload ->> 'definition_hash', 0)
        LIMIT 1
    ) AS following
)
SELECT definition_hash
FROM walked
WHERE definition_hash BETWEEN $1 AND $2
ORDER BY definition_hash
LIMIT $3

-- name: walk_kept_artifacts
-- Describe the artifacts that flows had stored when they were archived, and that stayed: as
-- `list_kept_artifacts_of_flows`, by one look into the index for each flow, however many artifacts
-- the planner expects of it.
-- $1 text kind, or null for any; $2 bigint maximum number of rows; $3 uuid[] flow_id
SELECT artifact.artifact_hash AS hash, artifact.kind, artifact.media_type,
    coalesce(artifact.content_size, CASE WHEN NOT artifact.content_is_payload
        THEN octet_length(artifact.content) END) AS content_bytes,
    convert_to(artifact.metadata::text, 'UTF8') AS metadata,
    artifact.flow_id, NULL::integer AS version, NULL::timestamptz AS ts,
    (SELECT count(*) FROM event_log AS beginning
        WHERE beginning.flow_id = artifact.flow_id AND beginning.version = 0) AS has_events
FROM unnest($3::uuid[]) WITH ORDINALITY AS page (flow_id, place)
CROSS JOIN LATERAL (
    SELECT own.*
    FROM workflow_step_artifacts AS own
    WHERE own.flow_id = page.flow_id AND ($1::text IS NULL OR own.kind = $1)
        AND (SELECT count(*) FROM event_log AS event
            WHERE event.flow_id = own.flow_id AND event.seq = own.produced_in_seq) = 0
    ORDER BY own.produced_in_seq DESC, own.artifact_hash
    LIMIT $2
) AS artifact
ORDER BY page.place, artifact.produced_in_seq DESC, artifact.artifact_hash
LIMIT $2
