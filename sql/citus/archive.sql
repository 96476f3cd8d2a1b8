-- The archive on a distributed log: the functions of migrations 0022 and 0026 for the shards of Citus. A trigger
-- of a table is on each of its shards, where it finds that shard of the register which has the same
-- flows: it is on the same node, and moves with it. Only events can be deleted, and what is made of
-- them: artifacts stay, since a flow may use those of another one on any node, and so do chunks.

-- It runs as the owner, who may log in to the workers alone: so what is on the coordinator itself is
-- changed without the connection to it that sessions of the library use otherwise.
CREATE OR REPLACE FUNCTION archive_flows(
    flow_ids uuid[], versions integer[], heads bytea[],
    bundle text, actor text
) RETURNS TABLE (archived_flow_id uuid, archived_no bigint) LANGUAGE plpgsql SECURITY DEFINER
SET citus.enable_local_execution = on AS $$
DECLARE
    -- read here: on a worker the session is the owner's, and begins at another time
    present timestamptz := now();
    caller name := session_user;
    named text[];
    known integer := 0;
    asked record;
    stored record;
    held text;
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'flows are archived under READ COMMITTED, where each statement sees what was committed before it'
            USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    IF coalesce(cardinality(flow_ids), 0) = 0 OR cardinality(flow_ids) <> cardinality(versions)
            OR cardinality(flow_ids) <> cardinality(heads)
            OR (SELECT count(DISTINCT given.flow_id) FROM unnest(flow_ids) AS given (flow_id))
                <> cardinality(flow_ids) THEN
        RAISE EXCEPTION 'flows are archived each once, with a version and a head'
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    -- one archive at a time: the numbers of the register are in the order of the commits
    PERFORM pg_advisory_xact_lock('archived_flows'::regclass::oid::integer, 0);

    -- a call whose reply was lost, and that is made again, finds what it did
    FOR asked IN
        SELECT given.* FROM unnest(flow_ids, versions, heads) AS given (flow_id, version, head)
    LOOP
        SELECT max(registered.archive_no) INTO archived_no
        FROM archived_flows AS registered
        WHERE registered.flow_id = asked.flow_id AND registered.version = asked.version
            AND registered.chain_hash = asked.head AND registered.bundle_sha256 = bundle
            AND NOT EXISTS (SELECT 1 FROM event_log AS event
                WHERE event.flow_id = asked.flow_id);
        IF archived_no IS NOT NULL THEN
            known := known + 1;
            archived_flow_id := asked.flow_id;
            RETURN NEXT;
        END IF;
    END LOOP;
    IF known = cardinality(flow_ids) THEN
        RETURN;
    ELSIF known > 0 THEN
        RAISE EXCEPTION 'some of the flows are archived already'
            USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;

    SELECT coalesce(array_agg(DISTINCT consumer.name ORDER BY consumer.name), '{}') INTO named
    FROM feed_consumers AS consumer;
    PERFORM count_leaving_flows(flow_ids);
    FOR asked IN
        SELECT given.* FROM unnest(flow_ids, versions, heads) AS given (flow_id, version, head)
        ORDER BY given.flow_id
    LOOP
        SELECT min(event.seq) AS first_seq, max(event.seq) AS last_seq,
            max(CASE WHEN event.version = asked.version - 1 AND event.chain_hash = asked.head
                    AND event.event_type = 'stepsignal'
                    AND event.payload ->> 'signal' = 'chem_persistence.sealed'
                THEN event.seq END) AS seal INTO stored
        FROM event_log AS event
        WHERE event.flow_id = asked.flow_id;
        IF stored.seal IS NULL THEN
            RAISE EXCEPTION 'flow % is not in the log with % events of which the last is this seal',
                    asked.flow_id, asked.version
                USING ERRCODE = 'object_not_in_prerequisite_state';
        END IF;
        SELECT consumer.name INTO held
        FROM feed_consumers AS consumer
        WHERE consumer.part = get_byte(sha256(uuid_send(asked.flow_id)), 0) % consumer.parts
            AND greatest(consumer.seq, consumer.passed_seq) < stored.seal
        ORDER BY consumer.name
        LIMIT 1;
        IF FOUND THEN
            RAISE EXCEPTION 'consumer % has not consumed flow % to its end', held, asked.flow_id
                USING ERRCODE = 'object_in_use';
        END IF;
        SELECT parked.name INTO held
        FROM feed_parked AS parked
        WHERE parked.flow_id = asked.flow_id
        ORDER BY parked.name
        LIMIT 1;
        IF FOUND THEN
            RAISE EXCEPTION 'consumer % has flow % parked', held, asked.flow_id
                USING ERRCODE = 'object_in_use';
        END IF;

        INSERT INTO archived_flows AS registered
            (flow_id, version, chain_hash, first_seq, last_seq, bundle_sha256, consumers,
                archived_at, actor, by_role, is_counted)
        VALUES (asked.flow_id, asked.version, asked.head, stored.first_seq, stored.last_seq, bundle,
            named, present, archive_flows.actor, caller,
            true)
        RETURNING registered.flow_id, registered.archive_no INTO archived_flow_id, archived_no;
        RETURN NEXT;

        DELETE FROM event_log AS event WHERE event.flow_id = asked.flow_id;
        DELETE FROM workflow_step_executions AS step WHERE step.flow_id = asked.flow_id;
        DELETE FROM flow_snapshots AS snapshot WHERE snapshot.flow_id = asked.flow_id;
        DELETE FROM flow_runs AS run WHERE run.flow_id = asked.flow_id;
        DELETE FROM imported_flows AS imported WHERE imported.flow_id = asked.flow_id;
        DELETE FROM resource_waits AS waits WHERE waits.flow_id = asked.flow_id;
    END LOOP;
END
$$;

CREATE OR REPLACE FUNCTION refuse_delete_of_live_flows() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    register text;
    is_refused boolean := true;
BEGIN
    SELECT format('%I.%I', TG_TABLE_SCHEMA, 'archived_flows_' || beside.shardid) INTO register
    FROM pg_catalog.pg_dist_shard AS own
    JOIN pg_catalog.pg_dist_shard AS beside ON beside.shardminvalue = own.shardminvalue
        AND beside.logicalrelid = to_regclass(format('%I.archived_flows', TG_TABLE_SCHEMA))
    WHERE own.shardid = substring(TG_TABLE_NAME FROM '[0-9]+$')::bigint
        AND own.logicalrelid = to_regclass(format('%I.event_log', TG_TABLE_SCHEMA));
    IF register IS NOT NULL THEN
        EXECUTE format($query$
            SELECT NOT EXISTS (SELECT 1 FROM gone) OR EXISTS (
                SELECT 1
                FROM (
                    SELECT event.flow_id, count(*) AS events, min(event.version) AS first,
                        max(event.version) AS last,
                        (array_agg(event.chain_hash ORDER BY event.version DESC))[1] AS head,
                        (array_agg(event.event_type = 'stepsignal'
                                AND event.payload ->> 'signal' = 'chem_persistence.sealed'
                            ORDER BY event.version DESC))[1] AS is_sealed
                    FROM gone AS event
                    GROUP BY event.flow_id
                ) AS deleted
                WHERE deleted.first <> 0 OR deleted.last <> deleted.events - 1
                    OR deleted.is_sealed IS NOT TRUE
                    OR NOT EXISTS (SELECT 1 FROM %1$s AS registered
                        WHERE registered.flow_id = deleted.flow_id
                            AND registered.version = deleted.events
                            AND registered.chain_hash = deleted.head)
                    OR EXISTS (SELECT 1 FROM %2$I.%3$I AS left_over
                        WHERE left_over.flow_id = deleted.flow_id))
            $query$, register, TG_TABLE_SCHEMA, TG_TABLE_NAME) INTO is_refused;
    END IF;
    IF is_refused THEN
        RAISE EXCEPTION '% is append-only: % is refused', TG_TABLE_NAME, TG_OP
            USING ERRCODE = 'restrict_violation',
                DETAIL = 'Only whole sealed flows that archived_flows names with their head can be deleted.';
    END IF;
    RETURN NULL;
END
$$;

CREATE OR REPLACE FUNCTION refuse_delete_of_live_artifacts() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only: % is refused', TG_TABLE_NAME, TG_OP
        USING ERRCODE = 'restrict_violation';
END
$$;

CREATE OR REPLACE FUNCTION refuse_delete_of_live_chunks() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only: % is refused', TG_TABLE_NAME, TG_OP
        USING ERRCODE = 'restrict_violation';
END
$$;

CREATE OR REPLACE FUNCTION refuse_delete_of_used_artifacts() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only: % is refused', TG_TABLE_NAME, TG_OP
        USING ERRCODE = 'restrict_violation';
END
$$;

-- as migration 0022 says: what guards the log looks at the log's own tables
DO $$
DECLARE
    guard regprocedure;
BEGIN
    FOR guard IN
        SELECT routine.oid
        FROM pg_proc AS routine
        WHERE routine.pronamespace = quote_ident(current_schema())::regnamespace
            AND routine.proname IN ('archive_flows', 'refuse_delete_of_live_artifacts',
                'refuse_delete_of_live_chunks', 'refuse_delete_of_live_flows',
                'refuse_delete_of_used_artifacts')
    LOOP
        EXECUTE format('ALTER FUNCTION %s SET search_path = %I, pg_temp', guard, current_schema());
    END LOOP;
END
$$;
