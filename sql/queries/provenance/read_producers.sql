-- Read the events that an artifact came from, the first first: each that names it among its outputs, and the one that it
-- was stored with, if that does not; a time that no datetime can hold is null.
-- $1 text artifact_hash, $2 bigint rows at most
SELECT producer.flow_id, producer.version, producer.seq, producer.event_type,
    (producer.payload ->> 'step_index')::bigint AS step_index, producer.payload ->> 'step_id' AS step_id,
    (SELECT min(output.place) - 1
        FROM jsonb_array_elements_text(producer.payload -> 'outputs') WITH ORDINALITY AS output (hash, place)
        WHERE output.hash = $1) AS output,
    CASE WHEN producer.ts BETWEEN '0001-01-01 00:00:00+00' AND '9999-12-31 23:59:59.999999+00' THEN producer.ts END AS ts
FROM (
    SELECT event.flow_id, event.version, event.seq, event.event_type, event.payload, event.ts
    FROM event_log AS event
    WHERE event.event_type = 'stepfinished' AND event.payload #>> '{outputs,0}' = $1
        AND hashtextextended(coalesce(event.payload #>> '{outputs,0}', event.payload ->> 'input'), 0) = hashtextextended($1, 0)
    UNION ALL
    SELECT event.flow_id, event.version, event.seq, event.event_type, event.payload, event.ts
    FROM event_log AS event
    WHERE event.event_type = 'stepfinished' AND event.payload #> '{outputs,1}' IS NOT NULL
        AND event.payload -> 'outputs' @> to_jsonb($1::text) AND event.payload #>> '{outputs,0}' <> $1
    UNION ALL
    SELECT event.flow_id, event.version, event.seq, event.event_type, event.payload, event.ts
    FROM workflow_step_artifacts AS artifact
    JOIN event_log AS event ON event.flow_id = artifact.flow_id AND event.seq = artifact.produced_in_seq
    WHERE artifact.artifact_hash = $1
        AND (event.event_type = 'stepfinished' AND event.payload -> 'outputs' @> to_jsonb($1::text)) IS NOT TRUE
) AS producer
ORDER BY producer.seq
LIMIT $2
