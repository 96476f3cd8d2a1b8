-- Read what the steps that had some artifacts as their inputs produced: each hash once, with the first step in the log
-- that relates it.
-- $1 text[] artifact_hash, $2 text[] hashes that are known already, $3 bigint rows at most
SELECT related.artifact_hash, artifact.kind, related.flow_id, related.step_index, related.step_id
FROM (
    SELECT DISTINCT ON (output.hash)
        output.hash AS artifact_hash, finished.seq, finished.flow_id, source.step_index,
        finished.payload ->> 'step_id' AS step_id
    FROM (
        SELECT event.flow_id, event.version, event.event_type, (event.payload ->> 'step_index')::bigint + 1 AS step_index
        FROM event_log AS event
        WHERE event.event_type = 'stepfinished' AND event.payload #>> '{outputs,0}' = ANY ($1::text[])
            AND hashtextextended(coalesce(event.payload #>> '{outputs,0}', event.payload ->> 'input'), 0)
                = ANY (ARRAY(SELECT hashtextextended(wanted.hash, 0) FROM unnest($1::text[]) AS wanted (hash)))
        UNION ALL
        SELECT event.flow_id, event.version, event.event_type, 0
        FROM event_log AS event
        WHERE event.event_type = 'flowinitialized' AND event.payload ->> 'input' = ANY ($1::text[])
            AND hashtextextended(coalesce(event.payload #>> '{outputs,0}', event.payload ->> 'input'), 0)
                = ANY (ARRAY(SELECT hashtextextended(wanted.hash, 0) FROM unnest($1::text[]) AS wanted (hash)))
    ) AS source
    JOIN event_log AS finished ON finished.flow_id = source.flow_id AND finished.version > source.version
        AND finished.event_type = 'stepfinished' AND (finished.payload ->> 'step_index')::bigint = source.step_index
    CROSS JOIN LATERAL jsonb_array_elements_text(finished.payload -> 'outputs') AS output (hash)
    WHERE output.hash <> ALL ($2::text[])
        AND NOT EXISTS (SELECT 1 FROM event_log AS later
            WHERE later.flow_id = source.flow_id AND later.version > source.version AND later.version < finished.version
                AND later.event_type = source.event_type
                AND (source.step_index = 0 OR (later.payload ->> 'step_index')::bigint = source.step_index - 1))
    ORDER BY output.hash, finished.seq
) AS related
LEFT JOIN workflow_step_artifacts AS artifact ON artifact.artifact_hash = related.artifact_hash
ORDER BY related.seq, related.artifact_hash
LIMIT $3
