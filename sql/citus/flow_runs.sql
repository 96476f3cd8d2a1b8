-- Claims and leases on a distributed log: the functions of migration 0012 that change several rows,
-- as statements of one row each, which Citus sends to a single shard. A row that is locked is waited
-- for.

CREATE OR REPLACE FUNCTION claim_flow_runs(
    definitions text[], worker uuid, token uuid, most integer, duration interval
) RETURNS TABLE (claimed_flow_id uuid, claimed_definition_hash text) LANGUAGE plpgsql AS $$
DECLARE
    present timestamptz := now();
    candidates uuid[];
    candidate uuid;
BEGIN
    candidates := ARRAY(
        SELECT run.flow_id
        FROM flow_runs AS run
        WHERE run.definition_hash = ANY (definitions) AND run.due_at <= present
        ORDER BY run.due_at
        LIMIT 4 * most);
    -- a sample, since workers that ask at once would all try the same flows; in the order of their
    -- ids, since two claims that wait for each other's rows would deadlock otherwise
    FOR candidate IN
        SELECT sample.flow_id
        FROM (SELECT flow.id AS flow_id FROM unnest(candidates) AS flow (id)
            ORDER BY random() LIMIT most) AS sample
        ORDER BY sample.flow_id
    LOOP
        UPDATE flow_runs AS run
        SET lease = token, holder = worker, due_at = present + duration
        WHERE run.flow_id = candidate AND run.due_at <= present
        RETURNING run.flow_id, run.definition_hash
        INTO claimed_flow_id, claimed_definition_hash;
        IF claimed_flow_id IS NOT NULL THEN
            RETURN NEXT;
        END IF;
    END LOOP;
END
$$;

CREATE OR REPLACE FUNCTION renew_flow_runs(flow_ids uuid[], tokens uuid[], duration interval)
RETURNS TABLE (held_flow_id uuid, is_renewed boolean, is_called boolean) LANGUAGE plpgsql AS $$
DECLARE
    due timestamptz := now() + duration;
    held record;
BEGIN
    FOR held IN
        SELECT wanted.flow_id, wanted.token FROM unnest(flow_ids, tokens) AS wanted (flow_id, token)
        ORDER BY wanted.flow_id
    LOOP
        UPDATE flow_runs AS run SET due_at = due
        WHERE run.flow_id = held.flow_id AND run.lease = held.token
        RETURNING run.flow_id, true, run.called INTO held_flow_id, is_renewed, is_called;
        IF held_flow_id IS NOT NULL THEN
            RETURN NEXT;
        END IF;
    END LOOP;
END
$$;

CREATE OR REPLACE FUNCTION release_flow_runs(flow_ids uuid[], tokens uuid[])
RETURNS SETOF uuid LANGUAGE plpgsql AS $$
DECLARE
    present timestamptz := now();
    held record;
BEGIN
    FOR held IN
        SELECT wanted.flow_id, wanted.token FROM unnest(flow_ids, tokens) AS wanted (flow_id, token)
        ORDER BY wanted.flow_id
    LOOP
        UPDATE flow_runs AS run
        SET lease = NULL, holder = NULL, called = false, due_at = present
        WHERE run.flow_id = held.flow_id AND run.lease = held.token;
        IF FOUND THEN
            RETURN NEXT held.flow_id;
        END IF;
    END LOOP;
END
$$;

CREATE OR REPLACE FUNCTION call_flow_runs(flow_ids uuid[])
RETURNS SETOF uuid LANGUAGE plpgsql AS $$
DECLARE
    present timestamptz := now();
    asked uuid;
BEGIN
    FOR asked IN
        SELECT DISTINCT wanted.flow_id FROM unnest(flow_ids) AS wanted (flow_id)
        ORDER BY wanted.flow_id
    LOOP
        UPDATE flow_runs AS run
        SET called = run.lease IS NOT NULL,
            due_at = CASE WHEN run.lease IS NULL THEN present ELSE run.due_at END
        WHERE run.flow_id = asked;
        IF FOUND THEN
            RETURN NEXT asked;
        END IF;
    END LOOP;
END
$$;
