-- Read which events produced and consumed an artifact.

-- name: read_consumers
-- Read the steps that started with an artifact as their input, in order, each with its first such
-- start; a time outside datetime's range is null. The input of a step is the first output of the
-- step before it, or the flow's own input.
-- $1 text artifact_hash, $2 bigint maximum number of rows
SELECT consumer.flow_id, consumer.version, consumer.seq, consumer.step_index,
    consumer.payload ->> 'step_id' AS step_id,
    CASE WHEN consumer.ts BETWEEN '0001-01-01 00:00:00+00' AND '9999-12-31 23:59:59.999999+00'
        THEN consumer.ts END AS ts
FROM (
    SELECT DISTINCT ON (source.flow_id, source.step_index)
        source.flow_id, source.step_index, started.version, started.seq, started.payload, started.ts
    FROM (
        SELECT finished.flow_id, finished.version, finished.event_type,
            (finished.payload ->> 'step_index')::bigint + 1 AS step_index
        FROM event_log AS finished
        WHERE finished.event_type = 'stepfinished' AND finished.payload #>> '{outputs,0}' = $1
            AND hashtextextended(coalesce(finished.payload #>> '{outputs,0}',
                finished.payload ->> 'input'), 0)
                = hashtextextended($1, 0)
        UNION ALL
        SELECT initialized.flow_id, initialized.version, initialized.event_type, 0
        FROM event_log AS initialized
        WHERE initialized.event_type = 'flowinitialized' AND initialized.payload ->> 'input' = $1
            AND hashtextextended(coalesce(initialized.payload #>> '{outputs,0}',
                initialized.payload ->> 'input'), 0)
                = hashtextextended($1, 0)
    ) AS source
    JOIN event_log AS started
        ON started.flow_id = source.flow_id AND started.version > source.version
        AND started.event_type = 'stepstarted'
        AND (started.payload ->> 'step_index')::bigint = source.step_index
    WHERE NOT EXISTS (SELECT 1 FROM event_log AS later
        WHERE later.flow_id = source.flow_id AND later.version > source.version
            AND later.version < started.version
            AND later.event_type = source.event_type
            AND (source.step_index = 0
                OR (later.payload ->> 'step_index')::bigint = source.step_index - 1))
    ORDER BY source.flow_id, source.step_index, started.version
) AS consumer
ORDER BY consumer.seq
LIMIT $2

-- name: read_producers
-- Read the events that produced an artifact, in order: each that names it among its outputs, and
-- the one it was stored with, unless that names it; a time outside datetime's range is null.
-- $1 text artifact_hash, $2 bigint maximum number of rows
SELECT producer.flow_id, producer.version, producer.seq, producer.event_type,
    (producer.payload ->> 'step_index')::bigint AS step_index,
    producer.payload ->> 'step_id' AS step_id,
    (SELECT min(output.place) - 1
        FROM jsonb_array_elements_text(producer.payload -> 'outputs')
            WITH ORDINALITY AS output (hash, place)
        WHERE output.hash = $1) AS output,
    CASE WHEN producer.ts BETWEEN '0001-01-01 00:00:00+00' AND '9999-12-31 23:59:59.999999+00'
        THEN producer.ts END AS ts
FROM (
    SELECT event.flow_id, event.version, event.seq, event.event_type, event.payload, event.ts
    FROM event_log AS event
    WHERE event.event_type = 'stepfinished' AND event.payload #>> '{outputs,0}' = $1
        AND hashtextextended(coalesce(event.payload #>> '{outputs,0}',
            event.payload ->> 'input'), 0) = hashtextextended($1, 0)
    UNION ALL
    SELECT event.flow_id, event.version, event.seq, event.event_type, event.payload, event.ts
    FROM event_log AS event
    WHERE event.event_type = 'stepfinished' AND event.payload #> '{outputs,1}' IS NOT NULL
        AND event.payload -> 'outputs' @> to_jsonb($1::text)
        AND event.payload #>> '{outputs,0}' <> $1
    UNION ALL
    SELECT event.flow_id, event.version, event.seq, event.event_type, event.payload, event.ts
    FROM workflow_step_artifacts AS artifact
    JOIN event_log AS event
        ON event.flow_id = artifact.flow_id AND event.seq = artifact.produced_in_seq
    WHERE artifact.artifact_hash = $1
        AND (event.event_type = 'stepfinished'
            AND event.payload -> 'outputs' @> to_jsonb($1::text)) IS NOT TRUE
) AS producer
ORDER BY producer.seq
LIMIT $2

-- name: read_products
-- Read the artifacts that were produced by the steps with some artifacts as their inputs: the
-- outputs of such a step, and what was stored with another event of it. Each hash is returned once,
-- with the first step in the log that relates it.
-- $1 text[] artifact_hash, $2 text[] hashes to leave out, $3 bigint maximum number of rows
WITH source AS MATERIALIZED (
    SELECT event.flow_id, event.version, event.event_type,
        (event.payload ->> 'step_index')::bigint + 1 AS step_index
    FROM event_log AS event
    WHERE event.event_type = 'stepfinished' AND event.payload #>> '{outputs,0}' = ANY ($1::text[])
        AND hashtextextended(coalesce(event.payload #>> '{outputs,0}',
            event.payload ->> 'input'), 0)
            = ANY (ARRAY(SELECT hashtextextended(wanted.hash, 0)
                FROM unnest($1::text[]) AS wanted (hash)))
    UNION ALL
    SELECT event.flow_id, event.version, event.event_type, 0
    FROM event_log AS event
    WHERE event.event_type = 'flowinitialized' AND event.payload ->> 'input' = ANY ($1::text[])
        AND hashtextextended(coalesce(event.payload #>> '{outputs,0}',
            event.payload ->> 'input'), 0)
            = ANY (ARRAY(SELECT hashtextextended(wanted.hash, 0)
                FROM unnest($1::text[]) AS wanted (hash)))
), product AS MATERIALIZED (
    SELECT output.hash, finished.flow_id, finished.version, finished.seq, source.step_index,
        finished.payload ->> 'step_id' AS step_id, source.version AS source_version,
        source.event_type
    FROM source
    JOIN event_log AS finished
        ON finished.flow_id = source.flow_id AND finished.version > source.version
        AND finished.event_type = 'stepfinished'
        AND (finished.payload ->> 'step_index')::bigint = source.step_index
    CROSS JOIN LATERAL jsonb_array_elements_text(finished.payload -> 'outputs') AS output (hash)
    UNION ALL
    SELECT stored.artifact_hash, event.flow_id, event.version, event.seq, source.step_index,
        event.payload ->> 'step_id', source.version, source.event_type
    FROM source
    JOIN workflow_step_artifacts AS stored ON stored.flow_id = source.flow_id
    JOIN event_log AS event ON event.flow_id = stored.flow_id AND event.seq = stored.produced_in_seq
        AND event.version > source.version
        AND (event.payload ->> 'step_index')::bigint = source.step_index
), overtaken AS MATERIALIZED (
    SELECT DISTINCT product.hash, product.flow_id, product.version, product.source_version
    FROM product
    JOIN event_log AS later ON later.flow_id = product.flow_id
        AND later.version > product.source_version AND later.version < product.version
        AND later.event_type = product.event_type
        AND (product.step_index = 0
            OR (later.payload ->> 'step_index')::bigint = product.step_index - 1)
)
SELECT DISTINCT ON (related.seq, related.artifact_hash)
    related.artifact_hash, artifact.kind, related.flow_id, related.step_index, related.step_id
FROM (
    SELECT DISTINCT ON (product.hash)
        product.hash AS artifact_hash, product.seq, product.flow_id, product.step_index,
        product.step_id
    FROM product
    WHERE product.hash <> ALL ($2::text[])
        AND NOT EXISTS (SELECT 1 FROM overtaken
            WHERE overtaken.hash = product.hash AND overtaken.flow_id = product.flow_id
                AND overtaken.version = product.version
                AND overtaken.source_version = product.source_version)
    ORDER BY product.hash, product.seq
) AS related
LEFT JOIN workflow_step_artifacts AS artifact ON artifact.artifact_hash = related.artifact_hash
ORDER BY related.seq, related.artifact_hash, artifact.produced_in_seq
LIMIT $3

-- name: read_sources
-- Read the artifacts that were the inputs of the steps which produced some artifacts, as outputs or
-- with another event: each hash once, with the first step in the log that relates it.
-- $1 text[] artifact_hash, $2 text[] hashes to leave out, $3 bigint maximum number of rows
SELECT DISTINCT ON (related.seq, related.artifact_hash)
    related.artifact_hash, artifact.kind, related.flow_id, related.step_index, related.step_id
FROM (
    SELECT DISTINCT ON (source.artifact_hash)
        source.artifact_hash, source.seq, source.flow_id, source.step_index, source.step_id
    FROM (
        SELECT finished.flow_id, finished.seq,
            (finished.payload ->> 'step_index')::bigint AS step_index,
            finished.payload ->> 'step_id' AS step_id,
            CASE WHEN (finished.payload ->> 'step_index')::bigint = 0 THEN
                (SELECT event.payload ->> 'input' FROM event_log AS event
                    WHERE event.flow_id = finished.flow_id AND event.version < finished.version
                        AND event.event_type = 'flowinitialized'
                    ORDER BY event.version DESC LIMIT 1)
            ELSE
                (SELECT event.payload #>> '{outputs,0}' FROM event_log AS event
                    WHERE event.flow_id = finished.flow_id AND event.version < finished.version
                        AND event.event_type = 'stepfinished'
                        AND (event.payload ->> 'step_index')::bigint
                            = (finished.payload ->> 'step_index')::bigint - 1
                    ORDER BY event.version DESC LIMIT 1)
            END AS artifact_hash
        FROM (
            SELECT event.flow_id, event.version, event.seq, event.payload
            FROM event_log AS event
            WHERE event.event_type = 'stepfinished'
                AND event.payload #>> '{outputs,0}' = ANY ($1::text[])
                AND hashtextextended(coalesce(event.payload #>> '{outputs,0}',
                    event.payload ->> 'input'), 0)
                    = ANY (ARRAY(SELECT hashtextextended(wanted.hash, 0)
                        FROM unnest($1::text[]) AS wanted (hash)))
            UNION ALL
            SELECT event.flow_id, event.version, event.seq, event.payload
            FROM event_log AS event
            WHERE event.event_type = 'stepfinished' AND event.payload #> '{outputs,1}' IS NOT NULL
                AND event.payload -> 'outputs'
                    @> ANY (ARRAY(SELECT to_jsonb(wanted.hash)
                        FROM unnest($1::text[]) AS wanted (hash)))
            UNION ALL
            SELECT event.flow_id, event.version, event.seq, event.payload
            FROM workflow_step_artifacts AS stored
            JOIN event_log AS event
                ON event.flow_id = stored.flow_id AND event.seq = stored.produced_in_seq
            WHERE stored.artifact_hash = ANY ($1::text[])
                AND event.payload ->> 'step_index' IS NOT NULL
        ) AS finished
    ) AS source
    WHERE source.artifact_hash <> ALL ($2::text[])
    ORDER BY source.artifact_hash, source.seq
) AS related
LEFT JOIN workflow_step_artifacts AS artifact ON artifact.artifact_hash = related.artifact_hash
ORDER BY related.seq, related.artifact_hash, artifact.produced_in_seq
LIMIT $3
