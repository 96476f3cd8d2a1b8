-- The append as one call, so that a batch of any size is one round trip and its own transaction.
-- Each statement stands below a line that begins with "-- statement:"; they run one by one in one transaction.

-- statement: append events to the ends of flows, with their artifacts and step rows; gives what was stored, match it by key
CREATE FUNCTION append_events(
    -- the events, a flow's own ones side by side and in order; a flow's events are stored all or none
    flow_ids uuid[], versions integer[], event_ids uuid[], times timestamptz[], event_types text[], payloads text[],
    event_metadata text[], chain_hashes bytea[],
    -- for each event, where its flow ended before this batch: the version to begin with, and the link of the event before
    first_versions integer[], previous_hashes bytea[],
    -- the artifacts (null: there are none), in hash order so that batches which share some cannot deadlock, and the event that each came with
    artifact_hashes text[], artifact_kinds text[], artifact_payloads text[], artifact_contents bytea[],
    artifact_media_types text[], artifact_metadata text[], artifact_flow_ids uuid[], artifact_versions integer[],
    -- steps (or null) that become pending again, whose failure is in their row already
    retry_flow_ids uuid[], retry_step_ids text[], retry_counts bigint[],
    -- changes of step rows (or null): attempts are added, null leaves a column as it was
    step_flow_ids uuid[], step_indexes bigint[], step_ids text[], step_statuses text[], step_attempts integer[],
    step_retry_counts bigint[], step_fingerprints text[], step_started_at timestamptz[], step_finished_at timestamptz[],
    step_errors text[],
    -- how long to wait for another writer's lock at most, such as '1s'; null leaves it to the session's own setting
    patience text
) RETURNS TABLE (stored_flow_id uuid, stored_version integer, stored_seq bigint) LANGUAGE plpgsql AS $$
DECLARE
    with_more boolean := artifact_hashes IS NOT NULL OR retry_flow_ids IS NOT NULL OR step_flow_ids IS NOT NULL;
    stored_flow_ids uuid[] := '{}';
    stored_versions integer[] := '{}';
    stored_seqs bigint[] := '{}';
BEGIN
    IF patience::interval < coalesce(nullif(current_setting('lock_timeout')::interval, '0'), '25 days') THEN
        PERFORM set_config('lock_timeout', patience, true);
    END IF;
    -- a flow that is not where its writer believes is left out: its next version is taken, or the one before is missing
    -- or another's; the scalar subqueries make the plan look each up in the key, however few rows the planner expects
    FOR stored_flow_id, stored_version, stored_seq IN
        INSERT INTO event_log AS log (flow_id, version, event_id, ts, event_type, payload, metadata, chain_hash)
        SELECT e.flow_id, e.version, e.event_id, e.ts, e.event_type, e.payload::jsonb, e.metadata::jsonb, e.chain_hash
        FROM unnest(flow_ids, versions, event_ids, times, event_types, payloads, event_metadata, chain_hashes,
                first_versions, previous_hashes) WITH ORDINALITY AS e
            (flow_id, version, event_id, ts, event_type, payload, metadata, chain_hash, first_version, previous_hash, place)
        WHERE (SELECT count(*) FROM event_log AS taken
                WHERE taken.flow_id = e.flow_id AND taken.version = e.first_version) = 0
            AND (e.first_version = 0 OR (SELECT previous.chain_hash FROM event_log AS previous
                WHERE previous.flow_id = e.flow_id AND previous.version = e.first_version - 1) = e.previous_hash)
        ORDER BY e.place
        RETURNING log.flow_id, log.version, log.seq
    LOOP
        RETURN NEXT;
        IF with_more THEN
            stored_flow_ids := array_append(stored_flow_ids, stored_flow_id);
            stored_versions := array_append(stored_versions, stored_version);
            stored_seqs := array_append(stored_seqs, stored_seq);
        END IF;
    END LOOP;

    IF artifact_hashes IS NOT NULL THEN  -- one that is already stored stays as it is
        INSERT INTO workflow_step_artifacts
            (artifact_hash, kind, payload, content, media_type, metadata, flow_id, produced_in_seq)
        SELECT a.artifact_hash, a.kind, a.payload::jsonb, a.content, a.media_type, a.metadata::jsonb, a.flow_id, stored.seq
        FROM unnest(artifact_hashes, artifact_kinds, artifact_payloads, artifact_contents, artifact_media_types,
                artifact_metadata, artifact_flow_ids, artifact_versions) WITH ORDINALITY AS a
            (artifact_hash, kind, payload, content, media_type, metadata, flow_id, version, place)
        JOIN unnest(stored_flow_ids, stored_versions, stored_seqs) AS stored (flow_id, version, seq)
            ON stored.flow_id = a.flow_id AND stored.version = a.version
        ORDER BY a.place
        ON CONFLICT DO NOTHING;
    END IF;

    IF retry_flow_ids IS NOT NULL THEN
        UPDATE workflow_step_executions AS step
        SET status = 'pending', retry_count = retry.retry_count
        FROM unnest(retry_flow_ids, retry_step_ids, retry_counts) AS retry (flow_id, step_id, retry_count)
        WHERE step.flow_id = retry.flow_id AND step.step_id = retry.step_id
            AND retry.flow_id IN (SELECT unnest(stored_flow_ids));
    END IF;

    IF step_flow_ids IS NOT NULL THEN
        INSERT INTO workflow_step_executions AS step
            (flow_id, step_index, step_id, status, attempts, retry_count, fingerprint, started_at, finished_at, error)
        SELECT c.flow_id, c.step_index, c.step_id, c.status, c.attempts, coalesce(c.retry_count, 0),
            c.fingerprint, c.started_at, c.finished_at, c.error::jsonb
        FROM unnest(step_flow_ids, step_indexes, step_ids, step_statuses, step_attempts, step_retry_counts,
                step_fingerprints, step_started_at, step_finished_at, step_errors) AS c
            (flow_id, step_index, step_id, status, attempts, retry_count, fingerprint, started_at, finished_at, error)
        WHERE c.flow_id IN (SELECT unnest(stored_flow_ids))
        ON CONFLICT (flow_id, step_index) DO UPDATE SET
            status = excluded.status,
            attempts = step.attempts + excluded.attempts,
            retry_count = greatest(step.retry_count, excluded.retry_count),
            fingerprint = coalesce(excluded.fingerprint, step.fingerprint),
            started_at = coalesce(excluded.started_at, step.started_at),
            finished_at = coalesce(excluded.finished_at, step.finished_at),
            error = coalesce(excluded.error, step.error);
    END IF;
END
$$
