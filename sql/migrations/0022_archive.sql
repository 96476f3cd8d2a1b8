-- Flows that are over are archived: their rows leave the log, and the register keeps their ids and
-- heads. Until now a DELETE always failed; from now on it fails except for whole flows that are
-- sealed and that the register names with their head. UPDATE and TRUNCATE always fail.
-- Each statement stands below a line that begins with "-- statement:"; they run one by one in one
-- transaction.

-- statement: no append is under way while this is done: each one either recorded the uses of its
-- artifacts, or is seen below as an older one
LOCK TABLE event_log, workflow_step_artifacts IN ACCESS EXCLUSIVE MODE

-- statement: an artifact of which every use is recorded. Those that were stored before are not: one
-- may be used by a flow that no row names, so they stay for ever
ALTER TABLE workflow_step_artifacts ADD COLUMN has_all_uses boolean NOT NULL DEFAULT false

-- statement: what is stored from now on is
ALTER TABLE workflow_step_artifacts ALTER COLUMN has_all_uses SET DEFAULT true

-- statement: an artifact that another flow uses stays when the event that brought it is archived
ALTER TABLE workflow_step_artifacts DROP CONSTRAINT workflow_step_artifacts_producer_fkey

-- statement: the artifact that an upload belongs to
CREATE INDEX workflow_step_artifacts_upload_idx ON workflow_step_artifacts (upload_id)
    WHERE upload_id IS NOT NULL

-- statement: Citus accepts triggers on distributed tables only so; plain PostgreSQL has no such
-- setting and does not mind
SET LOCAL citus.enable_unsafe_triggers = on

-- statement: events may only be deleted as whole flows, which end with their seal and are registered
-- with their head; a statement that deletes nothing is refused as well
CREATE FUNCTION refuse_delete_of_live_flows() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (SELECT 1 FROM gone) OR EXISTS (
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
            OR NOT EXISTS (SELECT 1 FROM archived_flows AS registered
                WHERE registered.flow_id = deleted.flow_id
                    AND registered.version = deleted.events
                    AND registered.chain_hash = deleted.head)
            OR EXISTS (SELECT 1 FROM event_log AS left_over
                WHERE left_over.flow_id = deleted.flow_id)) THEN
        RAISE EXCEPTION '% is append-only: % is refused', TG_TABLE_NAME, TG_OP
            USING ERRCODE = 'restrict_violation',
                DETAIL = 'Only whole sealed flows that archived_flows names with their head can be deleted.';
    END IF;
    RETURN NULL;
END
$$

-- statement: artifacts may only be deleted if they came with a flow that is archived, and every use
-- of them is known; a use keeps them by its foreign key
CREATE FUNCTION refuse_delete_of_live_artifacts() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (SELECT 1 FROM gone) OR EXISTS (
        SELECT 1
        FROM gone AS artifact
        WHERE NOT artifact.has_all_uses
            OR artifact.kind IN
                ('chem_persistence.FlowDefinition', 'chem_persistence.StepDefinition')
            OR NOT EXISTS (SELECT 1 FROM archived_flows AS registered
                WHERE registered.flow_id = artifact.flow_id)
            OR EXISTS (SELECT 1 FROM event_log AS event
                WHERE event.flow_id = artifact.flow_id)) THEN
        RAISE EXCEPTION '% is append-only: % is refused', TG_TABLE_NAME, TG_OP
            USING ERRCODE = 'restrict_violation',
                DETAIL = 'Only what archived flows alone use can be deleted.';
    END IF;
    RETURN NULL;
END
$$

-- statement: the foreign key would say the same, by another error than all other refusals have
CREATE FUNCTION refuse_delete_of_used_artifacts() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT 1 FROM workflow_step_artifact_uses AS used
            WHERE used.artifact_hash = OLD.artifact_hash) THEN
        RAISE EXCEPTION '% is append-only: % is refused', TG_TABLE_NAME, TG_OP
            USING ERRCODE = 'restrict_violation',
                DETAIL = 'A flow uses the artifact.';
    END IF;
    RETURN OLD;
END
$$

-- statement: chunks may only be deleted all together, and if no artifact has them: an upload and its
-- artifact are stored in one transaction
CREATE FUNCTION refuse_delete_of_live_chunks() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (SELECT 1 FROM gone) OR EXISTS (
        SELECT 1
        FROM (SELECT DISTINCT chunk.upload_id FROM gone AS chunk) AS deleted
        WHERE EXISTS (SELECT 1 FROM workflow_step_artifacts AS artifact
                WHERE artifact.upload_id = deleted.upload_id)
            OR EXISTS (SELECT 1 FROM workflow_step_artifact_chunks AS left_over
                WHERE left_over.upload_id = deleted.upload_id)) THEN
        RAISE EXCEPTION '% is append-only: % is refused', TG_TABLE_NAME, TG_OP
            USING ERRCODE = 'restrict_violation',
                DETAIL = 'Only whole uploads that no artifact has can be deleted.';
    END IF;
    RETURN NULL;
END
$$

-- statement: uses may only be deleted with the flow that has them
CREATE FUNCTION refuse_delete_of_live_uses() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (SELECT 1 FROM gone) OR EXISTS (
        SELECT 1
        FROM (SELECT DISTINCT used.flow_id FROM gone AS used) AS deleted
        WHERE NOT EXISTS (SELECT 1 FROM archived_flows AS registered
                WHERE registered.flow_id = deleted.flow_id)
            OR EXISTS (SELECT 1 FROM event_log AS event
                WHERE event.flow_id = deleted.flow_id)) THEN
        RAISE EXCEPTION '% is append-only: % is refused', TG_TABLE_NAME, TG_OP
            USING ERRCODE = 'restrict_violation',
                DETAIL = 'Only the uses of archived flows can be deleted.';
    END IF;
    RETURN NULL;
END
$$

-- statement: its DELETE is looked at below
DROP TRIGGER event_log_append_only ON event_log

-- statement: events are facts
CREATE TRIGGER event_log_append_only BEFORE UPDATE ON event_log
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change_of_history()

-- statement: they leave as whole flows, or not at all
CREATE TRIGGER event_log_whole_flows AFTER DELETE ON event_log
    REFERENCING OLD TABLE AS gone
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_delete_of_live_flows()

-- statement: its DELETE is looked at below
DROP TRIGGER workflow_step_artifacts_append_only ON workflow_step_artifacts

-- statement: artifacts are named by their content, so they do not change
CREATE TRIGGER workflow_step_artifacts_append_only BEFORE UPDATE ON workflow_step_artifacts
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change_of_history()

-- statement: they leave with the flows that use them
CREATE TRIGGER workflow_step_artifacts_archived AFTER DELETE ON workflow_step_artifacts
    REFERENCING OLD TABLE AS gone
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_delete_of_live_artifacts()

-- statement: they do not leave before
CREATE TRIGGER workflow_step_artifacts_used BEFORE DELETE ON workflow_step_artifacts
    FOR EACH ROW EXECUTE FUNCTION refuse_delete_of_used_artifacts()

-- statement: its DELETE is looked at below
DROP TRIGGER workflow_step_artifact_chunks_append_only ON workflow_step_artifact_chunks

-- statement: chunks are content, so they do not change
CREATE TRIGGER workflow_step_artifact_chunks_append_only
    BEFORE UPDATE ON workflow_step_artifact_chunks
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change_of_history()

-- statement: they leave with their artifact
CREATE TRIGGER workflow_step_artifact_chunks_archived AFTER DELETE ON workflow_step_artifact_chunks
    REFERENCING OLD TABLE AS gone
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_delete_of_live_chunks()

-- statement: its DELETE is looked at below
DROP TRIGGER workflow_step_artifact_uses_append_only ON workflow_step_artifact_uses

-- statement: uses are facts, too
CREATE TRIGGER workflow_step_artifact_uses_append_only BEFORE UPDATE ON workflow_step_artifact_uses
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change_of_history()

-- statement: they leave with the flow that has them
CREATE TRIGGER workflow_step_artifact_uses_archived AFTER DELETE ON workflow_step_artifact_uses
    REFERENCING OLD TABLE AS gone
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_delete_of_live_uses()

-- statement: archive sealed flows, all or none: register them with the bundle that has them, and
-- delete their rows, and the artifacts that no other flow uses. It runs with the rights of the owner,
-- so that nobody needs the right to DELETE. Returns the numbers in the register
CREATE FUNCTION archive_flows(
    -- the flows, each with the number of its events, of which the last is its seal, and the chain
    -- hash of that one
    flow_ids uuid[], versions integer[], heads bytea[],
    -- the SHA-256 of the bundle that has them all, and who archives them
    bundle text, actor text
) RETURNS TABLE (archived_flow_id uuid, archived_no bigint) LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    named text[];
    released text[];
    uploads uuid[];
    known bigint;
    held record;
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'flows are archived under READ COMMITTED, where each statement sees what was committed before it'
            USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    IF coalesce(cardinality(flow_ids), 0) = 0 OR cardinality(flow_ids) <> cardinality(versions)
            OR cardinality(flow_ids) <> cardinality(heads)
            OR (SELECT count(DISTINCT asked.flow_id) FROM unnest(flow_ids) AS asked (flow_id))
                <> cardinality(flow_ids) THEN
        RAISE EXCEPTION 'flows are archived each once, with a version and a head'
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    -- one archive at a time: the numbers of the register are in the order of the commits
    PERFORM pg_advisory_xact_lock('archived_flows'::regclass::oid::integer, 0);

    -- a call whose reply was lost, and that is made again, finds what it did
    RETURN QUERY
    SELECT registered.flow_id, max(registered.archive_no)
    FROM unnest(flow_ids, versions, heads) AS asked (flow_id, version, head)
    JOIN archived_flows AS registered ON registered.flow_id = asked.flow_id
        AND registered.version = asked.version AND registered.chain_hash = asked.head
        AND registered.bundle_sha256 = bundle
    WHERE NOT EXISTS (SELECT 1 FROM event_log AS event WHERE event.flow_id = ANY (flow_ids))
    GROUP BY registered.flow_id;
    GET DIAGNOSTICS known = ROW_COUNT;
    IF known = cardinality(flow_ids) THEN
        RETURN;
    ELSIF known > 0 THEN
        RAISE EXCEPTION 'some of the flows are archived already'
            USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;

    SELECT asked.flow_id, asked.version INTO held
    FROM unnest(flow_ids, versions, heads) AS asked (flow_id, version, head)
    WHERE NOT EXISTS (SELECT 1 FROM event_log AS seal
        WHERE seal.flow_id = asked.flow_id AND seal.version = asked.version - 1
            AND seal.chain_hash = asked.head AND seal.event_type = 'stepsignal'
            AND seal.payload ->> 'signal' = 'chem_persistence.sealed')
    ORDER BY asked.flow_id
    LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'flow % is not in the log with % events of which the last is this seal',
                held.flow_id, held.version
            USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    SELECT consumer.name, asked.flow_id INTO held
    FROM unnest(flow_ids, versions) AS asked (flow_id, version)
    JOIN event_log AS seal ON seal.flow_id = asked.flow_id AND seal.version = asked.version - 1
    JOIN feed_consumers AS consumer
        ON consumer.part = get_byte(sha256(uuid_send(asked.flow_id)), 0) % consumer.parts
    WHERE greatest(consumer.seq, consumer.passed_seq) < seal.seq
    ORDER BY consumer.name, asked.flow_id
    LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'consumer % has not consumed flow % to its end', held.name, held.flow_id
            USING ERRCODE = 'object_in_use';
    END IF;
    SELECT parked.name, parked.flow_id INTO held
    FROM feed_parked AS parked
    WHERE parked.flow_id = ANY (flow_ids)
    ORDER BY parked.name, parked.flow_id
    LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'consumer % has flow % parked', held.name, held.flow_id
            USING ERRCODE = 'object_in_use';
    END IF;

    SELECT coalesce(array_agg(DISTINCT consumer.name ORDER BY consumer.name), '{}') INTO named
    FROM feed_consumers AS consumer;
    RETURN QUERY
    INSERT INTO archived_flows AS registered
        (flow_id, version, chain_hash, first_seq, last_seq, bundle_sha256, consumers, actor)
    SELECT asked.flow_id, asked.version, asked.head,
        (SELECT min(event.seq) FROM event_log AS event WHERE event.flow_id = asked.flow_id),
        (SELECT max(event.seq) FROM event_log AS event WHERE event.flow_id = asked.flow_id),
        bundle, named, archive_flows.actor
    FROM unnest(flow_ids, versions, heads) AS asked (flow_id, version, head)
    ORDER BY asked.flow_id
    RETURNING registered.flow_id, registered.archive_no;

    DELETE FROM event_log AS event WHERE event.flow_id = ANY (flow_ids);
    DELETE FROM workflow_step_executions AS step WHERE step.flow_id = ANY (flow_ids);
    DELETE FROM flow_snapshots AS snapshot WHERE snapshot.flow_id = ANY (flow_ids);
    DELETE FROM flow_runs AS run WHERE run.flow_id = ANY (flow_ids);
    DELETE FROM imported_flows AS imported WHERE imported.flow_id = ANY (flow_ids);
    DELETE FROM resource_waits AS waits WHERE waits.flow_id = ANY (flow_ids);
    released := ARRAY(
        SELECT used.artifact_hash
        FROM workflow_step_artifact_uses AS used
        WHERE used.flow_id = ANY (flow_ids));
    IF released <> '{}' THEN
        DELETE FROM workflow_step_artifact_uses AS used WHERE used.flow_id = ANY (flow_ids);
    END IF;

    -- the artifacts of these flows, and those of flows that were archived before, which these used:
    -- from here on those who want to use one wait, in the order of the hashes as appends lock them,
    -- and those who use one are seen by the next statement
    released := ARRAY(
        SELECT artifact.artifact_hash
        FROM (
            SELECT own.artifact_hash, own.flow_id, own.has_all_uses, own.kind
            FROM workflow_step_artifacts AS own
            WHERE own.flow_id = ANY (flow_ids) OR own.artifact_hash = ANY (released)
            ORDER BY own.artifact_hash
            FOR UPDATE
        ) AS artifact
        WHERE artifact.has_all_uses AND artifact.kind NOT IN
                ('chem_persistence.FlowDefinition', 'chem_persistence.StepDefinition')
            AND NOT EXISTS (SELECT 1 FROM event_log AS event
                WHERE event.flow_id = artifact.flow_id));
    released := ARRAY(
        SELECT unnest(released)
        EXCEPT
        SELECT used.artifact_hash
        FROM workflow_step_artifact_uses AS used
        WHERE used.artifact_hash = ANY (released));
    IF released <> '{}' THEN
        uploads := ARRAY(
            SELECT artifact.upload_id
            FROM workflow_step_artifacts AS artifact
            WHERE artifact.artifact_hash = ANY (released) AND artifact.upload_id IS NOT NULL);
        DELETE FROM workflow_step_artifacts AS artifact WHERE artifact.artifact_hash = ANY (released);
        -- a content may be empty
        IF EXISTS (SELECT 1 FROM workflow_step_artifact_chunks AS chunk
                WHERE chunk.upload_id = ANY (uploads)) THEN
            DELETE FROM workflow_step_artifact_chunks AS chunk
            WHERE chunk.upload_id = ANY (uploads);
        END IF;
    END IF;
END
$$

-- statement: the role that archives is given this right, and nobody else
REVOKE ALL ON FUNCTION archive_flows(uuid[], integer[], bytea[], text, text) FROM PUBLIC

-- statement: what guards the log looks at the log's own tables, whatever the path of a session is
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
                'refuse_delete_of_live_uses', 'refuse_delete_of_used_artifacts')
    LOOP
        EXECUTE format('ALTER FUNCTION %s SET search_path = %I, pg_temp', guard, current_schema());
    END LOOP;
END
$$
