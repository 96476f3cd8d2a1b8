-- Write the step rows of the same flows: four finished steps each.
-- $1 bigint first flow, $2 bigint last flow, $3 text[] step ids, $4 text[] fingerprints
INSERT INTO workflow_step_executions
    (flow_id, step_index, step_id, status, attempts, retry_count, fingerprint, started_at, finished_at)
SELECT md5('flow ' || flow)::uuid, place - 1, step_id, 'finished', 1, 0, fingerprint,
    timestamptz '2026-01-01 00:00:00Z' + (flow * 10 + place * 2) * interval '1 millisecond',
    timestamptz '2026-01-01 00:00:00Z' + (flow * 10 + place * 2 + 1) * interval '1 millisecond'
FROM generate_series($1::bigint, $2::bigint) AS flow
CROSS JOIN unnest($3::text[], $4::text[]) WITH ORDINALITY AS step (step_id, fingerprint, place)
