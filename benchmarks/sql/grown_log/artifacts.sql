-- Store the inputs of the same flows with their first events, and their last outputs with the events
-- of their last steps.
-- $1 bigint first flow, $2 bigint last flow
INSERT INTO workflow_step_artifacts (artifact_hash, kind, payload, media_type, metadata, flow_id,
    produced_in_seq)
SELECT encode(sha256(convert_to(body.text, 'UTF8')), 'hex'), body.kind, body.text::jsonb,
    'application/json', '{}', flow.flow_id, event.seq
FROM grown_flow AS flow
JOIN grown_event AS template ON template.shape = flow.shape
CROSS JOIN LATERAL (
    SELECT 'Molecule' AS kind, grown_input(flow.number) AS text WHERE template.version = 0
    UNION ALL
    SELECT 'Energy', grown_output(flow.number) WHERE template.payload LIKE '%@out@%'
) AS body
JOIN event_log AS event ON event.flow_id = flow.flow_id AND event.version = template.version
WHERE flow.number BETWEEN $1 AND $2
ORDER BY flow.number, template.version
