-- An append that is alone, of one event without artifacts, sends its columns as parameters: the server
-- builds no arrays and takes none apart, and asks only what such an event can change. Whatever else is
-- the case, `append_rows` is called with the same rows, and decides.
-- Each statement stands below a line that begins with "-- statement:"; they run one by one in one
-- transaction.

-- statement: append one event to the end of a flow that has events, as append_rows does; return its
-- seq, or null if it was left out. It is no first event, no seal, does not take a result over, and
-- changes the row of its step at most as a start or a success
CREATE FUNCTION append_one(
    -- the flow, the version of the event, and the chain_hash of the event before it
    flow uuid, place integer, previous bytea,
    -- the token of the writer's claim, or null; keeps as in append_flow
    token uuid, keeps boolean,
    -- the event: its event_id, ts, chain_hash, payload and metadata
    event uuid, at timestamptz, link bytea, fact jsonb, context jsonb,
    -- if a step starts or finishes: its step_index, its step_id and, of one that finishes, its
    -- fingerprint
    step bigint, step_name text, print text,
    -- 'call' if the event is a signal, which calls the flow unless the holder appends it; 'end' if it
    -- ends the flow; or null
    effect text,
    -- how long to wait for another writer's lock at most, as in append_rows
    patience text
) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    sequence oid := 'event_log_seq_seq'::regclass;
    head bytea := previous;
    stored bigint;
    done text;
BEGIN
    -- A condition or an assignment is prepared anew in each transaction, for a hundredth of the whole
    -- cost: so there are few, and short ones. PERFORM and an expression with a table would be queries.
    IF pg_my_temp_schema() = 0 THEN  -- no temporary table can hide one of the log's
        IF patience IS NULL THEN
            NULL;
        ELSIF current_setting('lock_timeout') = '0' THEN
            done := set_config('lock_timeout', patience, true);
        ELSIF patience::interval < current_setting('lock_timeout')::interval THEN
            done := set_config('lock_timeout', patience, true);
        END IF;
        -- as in append_rows
        IF coalesce(current_setting('chem_persistence.feed_lock', true), '') <> sequence::text THEN
            done := pg_advisory_xact_lock_shared(
                sequence::integer,
                (coalesce(pg_sequence_last_value(sequence), 0) & 2147483647)::integer);
            done := set_config('chem_persistence.feed_lock', sequence::text, true);
        END IF;
        IF token IS NOT NULL THEN  -- the event of a worker that does not hold the flow follows none
            SELECT previous INTO head
            FROM flow_runs AS run
            WHERE run.flow_id = flow AND run.lease = token;
        END IF;
        INSERT INTO event_log AS log
            (flow_id, version, event_id, ts, event_type, payload, metadata, chain_hash)
        SELECT flow, place, event, at, fact ->> 'type', fact, context, link
        WHERE (SELECT CASE WHEN last.version = place - 1
                        AND (last.event_type <> 'stepsignal'
                            OR last.payload ->> 'signal' <> 'chem_persistence.sealed')
                    THEN last.chain_hash END
                FROM event_log AS last
                WHERE last.flow_id = flow AND last.version >= place - 1
                ORDER BY last.version DESC LIMIT 1) = head
        RETURNING log.seq INTO stored;
    END IF;

    IF stored IS NULL THEN  -- append_rows says why, or stores it after all
        RETURN (append_rows(
            ARRAY[ROW(flow, place, previous, token, NULL, NULL, keeps)::append_flow],
            ARRAY[ROW(flow, place, event, at, link, fact, context)::append_event],
            NULL,
            NULL,
            CASE WHEN step IS NULL THEN NULL
                WHEN print IS NULL THEN ARRAY[
                    ROW(flow, step, 1, step_name, 'running', NULL, NULL, at, NULL, NULL)::append_step]
                ELSE ARRAY[ROW(flow, step, 0, step_name, 'finished', NULL, print, NULL, at,
                    NULL)::append_step] END,
            patience))[1];
    END IF;

    IF step IS NULL THEN
        NULL;
    ELSIF print IS NULL THEN
        INSERT INTO workflow_step_executions AS own
            (flow_id, step_index, step_id, status, attempts, retry_count, started_at)
        VALUES (flow, step, step_name, 'running', 1, 0, at)
        ON CONFLICT (flow_id, step_index) DO UPDATE SET
            status = excluded.status,
            attempts = own.attempts + 1,
            started_at = excluded.started_at;
    ELSE
        INSERT INTO workflow_step_executions AS own
            (flow_id, step_index, step_id, status, attempts, retry_count, fingerprint, finished_at)
        VALUES (flow, step, step_name, 'finished', 0, 0, print, at)
        ON CONFLICT (flow_id, step_index) DO UPDATE SET
            status = excluded.status,
            fingerprint = excluded.fingerprint,
            finished_at = excluded.finished_at;
    END IF;

    -- last, since other writers wait for the row that this locks
    IF effect IS NULL THEN
        NULL;
    ELSIF effect = 'end' THEN
        DELETE FROM flow_runs AS run WHERE run.flow_id = flow;
    ELSIF token IS NULL THEN
        -- also for a flow without a row, which is nobody's, or about to get one: the lock of the UPDATE
        -- in it makes add_flow_runs wait for the commit, and see this event
        PERFORM change_flow_run(flow, NULL, false, false);
    END IF;
    RETURN stored;
END
$$

-- statement: roles that may call append_rows may call append_one
DO $$
DECLARE
    given record;
BEGIN
    FOR given IN
        SELECT DISTINCT CASE own.grantee WHEN 0 THEN 'PUBLIC' ELSE own.grantee::regrole::text END
            AS name
        FROM pg_proc AS routine
        CROSS JOIN LATERAL aclexplode(
            coalesce(routine.proacl, acldefault('f', routine.proowner))) AS own
        WHERE routine.oid = to_regproc('append_rows')
    LOOP
        EXECUTE format('GRANT EXECUTE ON FUNCTION append_one TO %s', given.name);
    END LOOP;
END
$$
