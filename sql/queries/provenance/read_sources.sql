-- Read what the steps that produced some artifacts had as their inputs: each hash once, with the first step in the log
-- that relates it.
-- $1 text[] artifact_hash, $2 text[] hashes that are known already, $3 bigint rows at most
SELECT related.artifact_hash, artifact.kind, related.flow_id, related.step_index, related.step_id
FROM (
    SELECT DISTINCT ON (source.artifact_hash)
        source.artifact_hash, source.seq, source.flow_id, source.step_index, source.step_id
    FROM (
        SELECT finished.flow_id, finished.seq, (finished.payload ->> 'step_index')::bigint AS step_index,
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
                        AND (event.payload ->> 'step_index')::bigint = (finished.payload ->> 'step_index')::bigint - 1
                    ORDER BY event.version DESC LIMIT 1)
            END AS artifact_hash
        FROM (
            SELECT event.flow_id, event.version, event.seq, event.payload
            FROM event_log AS event
            WHERE event.event_type = 'stepfinished' AND event.payload #>> '{outputs,0}' = ANY ($1::text[])
                AND hashtextextended(coalesce(event.payload #>> '{outputs,0}', event.payload ->> 'input'), 0)
                    = ANY (ARRAY(SELECT hashtextextended(wanted.hash, 0) FROM unnest($1::text[]) AS wanted (hash)))
            UNION ALL
            SELECT event.flow_id, event.version, event.seq, event.payload
            FROM event_log AS event
            WHERE event.event_type = 'stepfinished' AND event.payload #> '{outputs,1}' IS NOT NULL
                AND event.payload -> 'outputs'
                    @> ANY (ARRAY(SELECT to_jsonb(wanted.hash) FROM unnest($1::text[]) AS wanted (hash)))
        ) AS finished
    ) AS source
    WHERE source.artifact_hash <> ALL ($2::text[])
    ORDER BY source.artifact_hash, source.seq
) AS related
LEFT JOIN workflow_step_artifacts AS artifact ON artifact.artifact_hash = related.artifact_hash
ORDER BY related.seq, related.artifact_hash
LIMIT $3
