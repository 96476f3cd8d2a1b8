-- Read the steps that started with an artifact as their input, the first first, each with its first such start; a time that
-- no datetime can hold is null. The input of a step is the first output of the step before it, or the flow's own.
-- $1 text artifact_hash, $2 bigint rows at most
SELECT consumer.flow_id, consumer.version, consumer.seq, consumer.step_index, consumer.payload ->> 'step_id' AS step_id,
    CASE WHEN consumer.ts BETWEEN '0001-01-01 00:00:00+00' AND '9999-12-31 23:59:59.999999+00' THEN consumer.ts END AS ts
FROM (
    SELECT DISTINCT ON (source.flow_id, source.step_index)
        source.flow_id, source.step_index, started.version, started.seq, started.payload, started.ts
    FROM (
        SELECT finished.flow_id, finished.version, finished.event_type,
            (finished.payload ->> 'step_index')::bigint + 1 AS step_index
        FROM event_log AS finished
        WHERE finished.event_type = 'stepfinished' AND finished.payload #>> '{outputs,0}' = $1
            AND hashtextextended(coalesce(finished.payload #>> '{outputs,0}', finished.payload ->> 'input'), 0)
                = hashtextextended($1, 0)
        UNION ALL
        SELECT initialized.flow_id, initialized.version, initialized.event_type, 0
        FROM event_log AS initialized
        WHERE initialized.event_type = 'flowinitialized' AND initialized.payload ->> 'input' = $1
            AND hashtextextended(coalesce(initialized.payload #>> '{outputs,0}', initialized.payload ->> 'input'), 0)
                = hashtextextended($1, 0)
    ) AS source
    JOIN event_log AS started ON started.flow_id = source.flow_id AND started.version > source.version
        AND started.event_type = 'stepstarted' AND (started.payload ->> 'step_index')::bigint = source.step_index
    WHERE NOT EXISTS (SELECT 1 FROM event_log AS later
        WHERE later.flow_id = source.flow_id AND later.version > source.version AND later.version < started.version
            AND later.event_type = source.event_type
            AND (source.step_index = 0 OR (later.payload ->> 'step_index')::bigint = source.step_index - 1))
    ORDER BY source.flow_id, source.step_index, started.version
) AS consumer
ORDER BY consumer.seq
LIMIT $2
