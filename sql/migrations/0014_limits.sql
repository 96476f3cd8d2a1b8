-- Limits of resources over all workers of the database: who uses the slots of 0012, and who waits
-- for some.
-- Each statement stands below a line that begins with "-- statement:"; they run one by one in one
-- transaction.

-- statement: a slot above a limit that was lowered is kept until its user has ended; nobody else
-- takes it
ALTER TABLE resource_slots ADD COLUMN is_leaving boolean NOT NULL DEFAULT false

-- statement: the flows whose next step waits for slots, one row for each resource that it uses.
-- since is when it asked first, by which those that wait are served; asks_at is when it asks again;
-- is_possible is whether it could ever have all that it uses
CREATE TABLE resource_waits (
    resource text NOT NULL,
    flow_id uuid NOT NULL,
    step_index bigint NOT NULL,
    amount integer NOT NULL,
    since timestamptz NOT NULL,
    asks_at timestamptz NOT NULL,
    is_possible boolean NOT NULL,
    CONSTRAINT resource_waits_pkey PRIMARY KEY (flow_id, resource),
    CONSTRAINT resource_waits_amount_check CHECK (amount > 0)
)

-- statement: the flows that wait for a resource, the one that has waited longest first
CREATE INDEX resource_waits_since_idx ON resource_waits (resource, since, flow_id)

-- statement: roles that may change the slots, or read them, may do the same with this table
DO $$
DECLARE
    given record;
BEGIN
    FOR given IN
        SELECT own.grantee, bool_or(own.privilege_type = 'INSERT') AS may_change
        FROM pg_class AS relation
        CROSS JOIN LATERAL aclexplode(relation.relacl) AS own
        WHERE relation.oid = 'resource_slots'::regclass AND own.grantee <> relation.relowner
            AND own.privilege_type IN ('SELECT', 'INSERT')
        GROUP BY own.grantee
    LOOP
        EXECUTE format('GRANT %s ON resource_waits TO %s',
            CASE WHEN given.may_change THEN 'SELECT, INSERT, UPDATE, DELETE' ELSE 'SELECT' END,
            CASE given.grantee WHEN 0 THEN 'PUBLIC' ELSE given.grantee::regrole::text END);
    END LOOP;
END
$$

-- statement: lock resources until the transaction ends, and return those that are limited. Each is
-- locked by its first slot, in the order of their names: two that lock several in different orders
-- would wait for each other. What is read afterwards, by a statement of its own, is what the last
-- one that held the lock has left
CREATE FUNCTION lock_resources(resources text[]) RETURNS text[] LANGUAGE plpgsql AS $$
DECLARE
    wanted text;
    limited text[] := '{}';
BEGIN
    FOR wanted IN
        SELECT DISTINCT asked.resource FROM unnest(resources) AS asked (resource)
        ORDER BY asked.resource
    LOOP
        PERFORM 1 FROM resource_slots AS slot WHERE slot.resource = wanted AND slot.slot = 0
        FOR UPDATE;
        IF FOUND THEN
            limited := array_append(limited, wanted);
        END IF;
    END LOOP;
    RETURN limited;
END
$$

-- statement: free the slots of locked resources whose flow is over, or whose step has an outcome. A
-- step that waits, or whose retry is scheduled, keeps its slots, and so does one whose worker died:
-- they belong to the step of a flow, not to a lease
CREATE FUNCTION free_ended_slots(resources text[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    users uuid[];
    given uuid[];
    ended text[];
BEGIN
    users := ARRAY(
        SELECT DISTINCT slot.flow_id
        FROM resource_slots AS slot
        WHERE slot.resource = ANY (resources) AND slot.flow_id IS NOT NULL);
    given := ARRAY(SELECT run.flow_id FROM flow_runs AS run WHERE run.flow_id = ANY (users));
    ended := ARRAY(
        SELECT concat(step.flow_id, '/', step.step_index)
        FROM workflow_step_executions AS step
        WHERE step.flow_id = ANY (users) AND step.status IN ('finished', 'failed'));
    UPDATE resource_slots AS slot
    SET flow_id = NULL, step_index = NULL
    WHERE slot.resource = ANY (resources) AND slot.flow_id IS NOT NULL
        AND (slot.flow_id <> ALL (given)
            OR concat(slot.flow_id, '/', slot.step_index) = ANY (ended));
    DELETE FROM resource_slots AS slot
    WHERE slot.resource = ANY (resources) AND slot.is_leaving AND slot.flow_id IS NULL;
END
$$

-- statement: count what is wanted of a locked resource by those flows that have waited longer than
-- this one, and are still there to take it: a flow that does not ask for a minute when it should
-- is not waited for. Counts only as many flows as could have a slot at once
CREATE FUNCTION count_reserved_slots(
    wanted text, flow uuid, asked_first timestamptz, present timestamptz
) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    earlier uuid[];
    given uuid[];
BEGIN
    earlier := ARRAY(
        SELECT waits.flow_id
        FROM resource_waits AS waits
        WHERE waits.resource = wanted AND waits.flow_id <> flow AND waits.is_possible
            AND (waits.since, waits.flow_id) < (asked_first, flow)
            AND waits.asks_at > present - interval '1 minute'
        ORDER BY waits.since, waits.flow_id
        LIMIT (SELECT count(*) FROM resource_slots AS slot WHERE slot.resource = wanted));
    given := ARRAY(SELECT run.flow_id FROM flow_runs AS run WHERE run.flow_id = ANY (earlier));
    DELETE FROM resource_waits AS waits
    WHERE waits.resource = wanted AND waits.flow_id = ANY (earlier)
        AND waits.flow_id <> ALL (given);
    RETURN (SELECT coalesce(sum(waits.amount), 0)
        FROM resource_waits AS waits
        WHERE waits.resource = wanted AND waits.flow_id = ANY (given));
END
$$

-- statement: take the slots that a step uses, all or none, and return whether any of the resources
-- is limited. If the slots are not free, return one resource that is short, and after which pause
-- to ask again: half as long as the flow has waited, between two bounds, but at least so much for
-- each flow that has waited longer
CREATE FUNCTION take_resource_slots(
    flow uuid, step bigint, resources text[], amounts integer[],
    first_pause interval, longest_pause interval, pause_per_flow interval
) RETURNS TABLE (is_limited boolean, short_of text, pause interval) LANGUAGE plpgsql AS $$
DECLARE
    limited text[] := lock_resources(resources);
    present timestamptz := clock_timestamp();
    asked_first timestamptz;
    ahead bigint := 0;
    possible boolean := true;
    asked record;
BEGIN
    is_limited := limited <> '{}';
    IF NOT is_limited THEN
        RETURN NEXT;
        RETURN;
    END IF;
    PERFORM free_ended_slots(limited);
    asked_first := coalesce((SELECT min(waits.since) FROM resource_waits AS waits
        WHERE waits.flow_id = flow AND waits.step_index = step), present);
    FOR asked IN
        SELECT wanted.resource, wanted.amount, count(*) FILTER (WHERE NOT slot.is_leaving) AS most,
            count(slot.flow_id) AS used,
            count(*) FILTER (WHERE slot.flow_id = flow AND slot.step_index = step) AS own
        FROM unnest(resources, amounts) AS wanted (resource, amount)
        JOIN resource_slots AS slot ON slot.resource = wanted.resource
        GROUP BY wanted.resource, wanted.amount
        ORDER BY wanted.resource
    LOOP
        possible := possible AND asked.amount <= asked.most;
        IF asked.own < asked.amount AND asked.used - asked.own + asked.amount
            + count_reserved_slots(asked.resource, flow, asked_first, present) > asked.most
        THEN
            short_of := coalesce(short_of, asked.resource);
            ahead := greatest(ahead, (SELECT count(*) FROM resource_waits AS waits
                WHERE waits.resource = asked.resource
                    AND (waits.since, waits.flow_id) < (asked_first, flow)));
        END IF;
    END LOOP;

    -- all or none: also of what another version of the step may have taken
    UPDATE resource_slots AS slot
    SET flow_id = NULL, step_index = NULL
    FROM (SELECT own.resource, own.slot,
            row_number() OVER (PARTITION BY own.resource ORDER BY own.is_leaving, own.slot) AS number
        FROM resource_slots AS own
        WHERE own.flow_id = flow AND own.step_index = step AND own.resource = ANY (limited)) AS own
    JOIN unnest(resources, amounts) AS wanted (resource, amount) ON wanted.resource = own.resource
    WHERE slot.resource = own.resource AND slot.slot = own.slot
        AND (short_of IS NOT NULL OR own.number > wanted.amount);
    DELETE FROM resource_waits AS waits WHERE waits.flow_id = flow;
    IF short_of IS NOT NULL THEN
        pause := greatest(first_pause, least((present - asked_first) / 2, longest_pause),
            ahead * pause_per_flow);
        INSERT INTO resource_waits
            (resource, flow_id, step_index, amount, since, asks_at, is_possible)
        SELECT wanted.resource, flow, step, wanted.amount, asked_first, present + pause, possible
        FROM unnest(resources, amounts) AS wanted (resource, amount)
        WHERE wanted.resource = ANY (limited);
        RETURN NEXT;
        RETURN;
    END IF;
    UPDATE resource_slots AS slot
    SET flow_id = flow, step_index = step
    FROM (SELECT free.resource, free.slot,
            row_number() OVER (PARTITION BY free.resource ORDER BY free.slot) AS number
        FROM resource_slots AS free
        WHERE free.resource = ANY (limited) AND free.flow_id IS NULL AND NOT free.is_leaving) AS free
    JOIN unnest(resources, amounts) AS wanted (resource, amount) ON wanted.resource = free.resource
    WHERE slot.resource = free.resource AND slot.slot = free.slot
        AND free.number <= wanted.amount - (SELECT count(*) FROM resource_slots AS own
            WHERE own.resource = free.resource AND own.flow_id = flow AND own.step_index = step);
    RETURN NEXT;
END
$$

-- statement: free the slots of a step that was not begun, if its flow is held by this lease, which
-- is read after they are locked: whoever holds the flow since may use them
CREATE FUNCTION give_back_resource_slots(flow uuid, step bigint, token uuid)
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM lock_resources(ARRAY(
        SELECT slot.resource FROM resource_slots AS slot
        WHERE slot.flow_id = flow AND slot.step_index = step));
    PERFORM 1 FROM flow_runs AS run WHERE run.flow_id = flow AND run.lease = token;
    IF FOUND THEN
        UPDATE resource_slots AS slot
        SET flow_id = NULL, step_index = NULL
        WHERE slot.flow_id = flow AND slot.step_index = step;
    END IF;
END
$$

-- statement: limit a resource to so many slots (null: not any more). Slots above a lower limit go
-- when their users have ended
CREATE FUNCTION set_resource_limit(wanted text, most integer)
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF most IS NULL THEN
        PERFORM lock_resources(ARRAY[wanted]);
        DELETE FROM resource_waits AS waits WHERE waits.resource = wanted;
        DELETE FROM resource_slots AS slot WHERE slot.resource = wanted;
        RETURN;
    END IF;
    INSERT INTO resource_slots (resource, slot) VALUES (wanted, 0) ON CONFLICT DO NOTHING;
    PERFORM lock_resources(ARRAY[wanted]);
    INSERT INTO resource_slots AS slot (resource, slot)
    SELECT wanted, number FROM generate_series(0, most - 1) AS number
    ON CONFLICT (resource, slot) DO UPDATE SET is_leaving = false WHERE slot.is_leaving;
    UPDATE resource_slots AS slot SET is_leaving = true
    WHERE slot.resource = wanted AND slot.slot >= most;
    PERFORM free_ended_slots(ARRAY[wanted]);
END
$$
