-- Statistics grow by what is new. Until now a refresh computed five materialized views from the whole
-- log; from now on it adds the events that were not counted yet to tables of the same names and
-- columns. Every figure is a sum, a minimum or a maximum over events, so it does not depend on how
-- many are added at once, and what is counted stays counted when its flow is archived.
-- Each statement stands below a line that begins with "-- statement:"; they run one by one in one
-- transaction.

-- statement: in this order appends take their locks, and those of the next migration are held as long
LOCK TABLE event_log IN SHARE MODE

-- statement: up to which event all are counted; -1 if the figures are those of the materialized views
-- before, which are replaced as a whole. refreshed_at is the time that the figures are of
CREATE TABLE new_statistics_refresh (
    refreshed boolean NOT NULL DEFAULT true,
    refreshed_at timestamptz NOT NULL,
    seq bigint NOT NULL,
    CONSTRAINT statistics_refresh_pkey PRIMARY KEY (refreshed),
    CONSTRAINT statistics_refresh_check CHECK (refreshed)
)

-- statement: how long the steps of a definition take, and how often they fail; null is the definition
-- of flows without one. A step id may be too long for an index, the hash in key is not
CREATE TABLE new_step_statistics (
    key bytea NOT NULL,
    definition_hash text,
    step_id text NOT NULL,
    executions bigint NOT NULL,
    finished bigint NOT NULL,
    attempts bigint NOT NULL,
    failures bigint NOT NULL,
    retries bigint NOT NULL,
    failure_rate double precision
        GENERATED ALWAYS AS (failures::double precision / nullif(attempts, 0)) STORED,
    mean_seconds double precision,
    p50_seconds double precision,
    p90_seconds double precision,
    p99_seconds double precision,
    longest_seconds double precision,
    CONSTRAINT step_statistics_pkey PRIMARY KEY (key)
)

-- statement: the durations of a step's executions, from which its percentiles are computed: how many
-- there are in each bucket, and their sum, the shortest and the longest. The durations of a bucket
-- differ by 2 % at most: its number is that of the duration on a logarithmic scale
CREATE TABLE step_durations (
    key bytea NOT NULL,
    bucket integer NOT NULL,
    finished bigint NOT NULL,
    microseconds numeric NOT NULL,
    shortest bigint NOT NULL,
    longest bigint NOT NULL,
    CONSTRAINT step_durations_pkey PRIMARY KEY (key, bucket)
)

-- statement: what fails in the flows of a definition, and how
CREATE TABLE new_failure_statistics (
    key bytea NOT NULL,
    definition_hash text,
    step_id text,
    error_class text,
    failures bigint NOT NULL,
    flows bigint NOT NULL,
    last_failed_at timestamptz NOT NULL,
    CONSTRAINT failure_statistics_pkey PRIMARY KEY (key)
)

-- statement: what happened, hour by hour
CREATE TABLE new_hourly_throughput (
    hour timestamptz NOT NULL,
    events bigint NOT NULL,
    flows_started bigint NOT NULL,
    flows_completed bigint NOT NULL,
    flows_cancelled bigint NOT NULL,
    steps_finished bigint NOT NULL,
    steps_failed bigint NOT NULL,
    retries bigint NOT NULL,
    CONSTRAINT hourly_throughput_pkey PRIMARY KEY (hour)
)

-- statement: how many artifacts were stored, and the bytes that the database took for them
CREATE TABLE new_artifact_statistics (
    key bytea NOT NULL,
    kind text NOT NULL,
    artifacts bigint NOT NULL,
    stored_bytes bigint NOT NULL,
    CONSTRAINT artifact_statistics_pkey PRIMARY KEY (key)
)

-- statement: until the next refresh the figures are those of the last one
INSERT INTO new_statistics_refresh (refreshed_at, seq)
SELECT before.refreshed_at, -1 FROM statistics_refresh AS before

-- statement: the same of the steps
INSERT INTO new_step_statistics (key, definition_hash, step_id, executions, finished, attempts,
    failures, retries, mean_seconds, p50_seconds, p90_seconds, p99_seconds, longest_seconds)
SELECT before.key, before.definition_hash, before.step_id, before.executions, before.finished,
    before.attempts, before.failures, before.retries, before.mean_seconds, before.p50_seconds,
    before.p90_seconds, before.p99_seconds, before.longest_seconds
FROM step_statistics AS before

-- statement: the same of the failures
INSERT INTO new_failure_statistics
SELECT before.key, before.definition_hash, before.step_id, before.error_class, before.failures,
    before.flows, before.last_failed_at
FROM failure_statistics AS before

-- statement: the same of the hours
INSERT INTO new_hourly_throughput
SELECT before.hour, before.events, before.flows_started, before.flows_completed,
    before.flows_cancelled, before.steps_finished, before.steps_failed, before.retries
FROM hourly_throughput AS before

-- statement: the same of the artifacts
INSERT INTO new_artifact_statistics
SELECT before.key, before.kind, before.artifacts, before.stored_bytes
FROM artifact_statistics AS before

-- statement: roles that may read a materialized view may read the table in its place
DO $$
DECLARE
    replaced text;
    reader oid;
BEGIN
    FOREACH replaced IN ARRAY ARRAY['statistics_refresh', 'step_statistics', 'failure_statistics',
        'hourly_throughput', 'artifact_statistics']
    LOOP
        FOR reader IN
            SELECT own.grantee
            FROM pg_class AS relation
            CROSS JOIN LATERAL aclexplode(relation.relacl) AS own
            WHERE relation.oid = replaced::regclass AND own.grantee <> relation.relowner
                AND own.privilege_type = 'SELECT'
        LOOP
            EXECUTE format('GRANT SELECT ON %I TO %s', 'new_' || replaced,
                CASE reader WHEN 0 THEN 'PUBLIC' ELSE reader::regrole::text END);
            IF replaced = 'step_statistics' THEN
                EXECUTE format('GRANT SELECT ON step_durations TO %s',
                    CASE reader WHEN 0 THEN 'PUBLIC' ELSE reader::regrole::text END);
            END IF;
        END LOOP;
        EXECUTE format('DROP MATERIALIZED VIEW %I', replaced);
        EXECUTE format('ALTER TABLE %I RENAME TO %I', 'new_' || replaced, replaced);
    END LOOP;
END
$$

-- statement: whether the statistics have the events of the archived flow, which are then not counted
-- again when it is imported. They lack those of flows that were archived before
ALTER TABLE archived_flows ADD COLUMN is_counted boolean NOT NULL DEFAULT false

-- statement: let nobody else count, until the end of the transaction, and return up to which event all
-- are counted. The figures of the materialized views are removed at the first time
CREATE FUNCTION lock_statistics() RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    counted bigint;
BEGIN
    SELECT refresh.seq INTO counted FROM statistics_refresh AS refresh FOR UPDATE;
    IF NOT FOUND THEN
        INSERT INTO statistics_refresh (refreshed_at, seq) VALUES (now(), -1)
        ON CONFLICT DO NOTHING;
        SELECT refresh.seq INTO counted FROM statistics_refresh AS refresh FOR UPDATE;
    END IF;
    IF counted = -1 THEN
        DELETE FROM step_statistics;
        DELETE FROM step_durations;
        DELETE FROM failure_statistics;
        DELETE FROM hourly_throughput;
        DELETE FROM artifact_statistics;
        UPDATE statistics_refresh SET seq = 0;
        counted := 0;
    END IF;
    RETURN counted;
END
$$

-- statement: add events to the statistics: those beyond a number up to another one, or, if flows are
-- named, all of these that are beyond it. What is asked of the log is kept in variables, since a log
-- that Citus distributes is asked on its workers, and the figures are on the coordinator. The plans
-- follow the indexes, however many flows the planner expects
CREATE FUNCTION count_events(after bigint, upto bigint, flows uuid[]) RETURNS void
LANGUAGE plpgsql SET enable_seqscan = off SET jit = off AS $$
DECLARE
    touched uuid[];
    begun uuid[];
    counted uuid[];
    steps jsonb;
    durations jsonb;
    failures jsonb;
    hours jsonb;
    artifacts jsonb;
    uploads uuid[];
    chunks jsonb;
    keys bytea[];
BEGIN
    SELECT array_agg(flow.flow_id), array_agg(flow.flow_id) FILTER (WHERE flow.first > 0)
    INTO touched, begun
    FROM (
        SELECT event.flow_id, min(event.version) AS first
        FROM event_log AS event
        WHERE event.seq > after AND event.seq <= upto AND flows IS NULL
        GROUP BY event.flow_id
        UNION ALL
        SELECT event.flow_id, min(event.version) AS first
        FROM event_log AS event
        WHERE event.flow_id = ANY (flows) AND event.seq > after
        GROUP BY event.flow_id
    ) AS flow;
    IF touched IS NULL THEN
        RETURN;
    END IF;
    -- a flow that was imported after its archive was counted before it
    counted := ARRAY(
        SELECT gone.flow_id
        FROM archived_flows AS gone
        WHERE gone.flow_id = ANY (touched) AND gone.is_counted);

    -- the new events, and what earlier ones of the same flows say about their steps
    WITH event AS MATERIALIZED (
        SELECT event.flow_id, event.version, event.ts, event.event_type, true AS is_new,
            CASE WHEN event.version = 0 THEN event.payload ->> 'definition_hash' END
                AS definition_hash,
            CASE WHEN event.event_type <> 'stepsignal' THEN event.payload ->> 'step_index' END
                AS step_index,
            CASE WHEN event.event_type <> 'stepsignal' THEN event.payload ->> 'step_id' END
                AS step_id,
            CASE WHEN event.event_type = 'stepfailed'
                THEN event.payload #>> '{error,error_class}' END AS error_class
        FROM event_log AS event
        WHERE event.seq > after AND event.seq <= upto AND flows IS NULL
            AND event.flow_id <> ALL (counted)
        UNION ALL
        SELECT event.flow_id, event.version, event.ts, event.event_type, true AS is_new,
            CASE WHEN event.version = 0 THEN event.payload ->> 'definition_hash' END,
            CASE WHEN event.event_type <> 'stepsignal' THEN event.payload ->> 'step_index' END,
            CASE WHEN event.event_type <> 'stepsignal' THEN event.payload ->> 'step_id' END,
            CASE WHEN event.event_type = 'stepfailed'
                THEN event.payload #>> '{error,error_class}' END
        FROM event_log AS event
        WHERE event.flow_id = ANY (flows) AND event.seq > after
            AND event.flow_id <> ALL (counted)
        UNION ALL
        SELECT event.flow_id, event.version, event.ts, event.event_type, false AS is_new,
            CASE WHEN event.version = 0 THEN event.payload ->> 'definition_hash' END,
            event.payload ->> 'step_index',
            event.payload ->> 'step_id',
            CASE WHEN event.event_type = 'stepfailed'
                THEN event.payload #>> '{error,error_class}' END
        FROM event_log AS event
        WHERE event.flow_id = ANY (begun) AND event.seq <= after
            AND event.flow_id <> ALL (counted)
            AND (event.version = 0 OR event.event_type IN ('stepstarted', 'stepfinished',
                'stepfailed', 'stepwaits', 'userinteractionrequested', 'userinteractionprovided'))
    ),
    flow AS MATERIALIZED (
        SELECT event.flow_id, event.definition_hash
        FROM event
        WHERE event.version = 0
    ),
    -- executions are steps that an event of their flow names for the first time; started is the
    -- version and the time of the last start before
    step AS MATERIALIZED (
        SELECT event.is_new, event.event_type, event.step_id, event.error_class, event.ts,
            coalesce(flow.definition_hash, '') AS definition_hash,
            event.event_type <> 'retryscheduled' AND count(*) OVER same_step = 1 AS is_first,
            count(*) OVER same_failure = 1 AS is_first_failure,
            CASE WHEN isfinite(event.ts) THEN extract(epoch FROM event.ts) END
                - (max(ARRAY[event.version,
                        CASE WHEN isfinite(event.ts) THEN extract(epoch FROM event.ts) END])
                    FILTER (WHERE event.event_type = 'stepstarted') OVER same_step)[2] AS seconds
        FROM event
        JOIN flow ON flow.flow_id = event.flow_id
        WHERE event.event_type IN ('stepstarted', 'stepfinished', 'stepfailed', 'stepwaits',
            'userinteractionrequested', 'userinteractionprovided', 'retryscheduled')
        WINDOW same_step AS (PARTITION BY event.flow_id, event.step_index ORDER BY event.version),
            same_failure AS (PARTITION BY event.flow_id, event.event_type, event.step_id,
                event.error_class ORDER BY event.version)
    ),
    finished AS MATERIALIZED (
        SELECT timed.definition_hash, timed.step_id, timed.microseconds,
            CASE WHEN timed.microseconds > 0
                THEN floor(ln(timed.microseconds::double precision) * 50)
                ELSE -1 - floor(ln(greatest(-timed.microseconds, 1)::double precision) * 50)
                END::integer AS bucket
        FROM (
            SELECT step.definition_hash, step.step_id,
                least(greatest(round(step.seconds * 1000000), -9e15), 9e15)::bigint
                    AS microseconds
            FROM step
            WHERE step.is_new AND step.event_type = 'stepfinished' AND step.seconds IS NOT NULL
                AND step.step_id IS NOT NULL
        ) AS timed
    )
    SELECT
        (SELECT jsonb_agg(to_jsonb(sums)) FROM (
            SELECT step.definition_hash, step.step_id,
                count(*) FILTER (WHERE step.is_first) AS executions,
                count(*) FILTER (WHERE step.event_type = 'stepstarted') AS attempts,
                count(*) FILTER (WHERE step.event_type = 'stepfailed') AS failures,
                count(*) FILTER (WHERE step.event_type = 'retryscheduled') AS retries
            FROM step
            WHERE step.is_new AND step.step_id IS NOT NULL
            GROUP BY step.definition_hash, step.step_id
        ) AS sums),
        (SELECT jsonb_agg(to_jsonb(sums)) FROM (
            SELECT finished.definition_hash, finished.step_id, finished.bucket,
                count(*) AS finished, sum(finished.microseconds) AS microseconds,
                min(finished.microseconds) AS shortest, max(finished.microseconds) AS longest
            FROM finished
            GROUP BY finished.definition_hash, finished.step_id, finished.bucket
        ) AS sums),
        (SELECT jsonb_agg(to_jsonb(sums)) FROM (
            SELECT step.definition_hash, step.step_id, step.error_class, count(*) AS failures,
                count(*) FILTER (WHERE step.is_first_failure) AS flows,
                max(step.ts) AS last_failed_at
            FROM step
            WHERE step.is_new AND step.event_type = 'stepfailed'
            GROUP BY step.definition_hash, step.step_id, step.error_class
        ) AS sums),
        (SELECT jsonb_agg(to_jsonb(sums)) FROM (
            SELECT date_trunc('hour', event.ts, 'UTC') AS hour, count(*) AS events,
                count(*) FILTER (WHERE event.version = 0) AS flows_started,
                count(*) FILTER (WHERE event.event_type = 'flowcompleted') AS flows_completed,
                count(*) FILTER (WHERE event.event_type = 'flowcancelled') AS flows_cancelled,
                count(*) FILTER (WHERE event.event_type = 'stepfinished') AS steps_finished,
                count(*) FILTER (WHERE event.event_type = 'stepfailed') AS steps_failed,
                count(*) FILTER (WHERE event.event_type = 'retryscheduled') AS retries
            FROM event
            WHERE event.is_new
            GROUP BY date_trunc('hour', event.ts, 'UTC')
        ) AS sums)
    INTO steps, durations, failures, hours;

    INSERT INTO step_statistics AS kept (key, definition_hash, step_id, executions, finished,
        attempts, failures, retries)
    SELECT sha256(convert_to(jsonb_build_array(new.definition_hash, new.step_id)::text, 'UTF8')),
        nullif(new.definition_hash, ''), new.step_id, new.executions, 0, new.attempts,
        new.failures, new.retries
    FROM jsonb_to_recordset(steps) AS new (definition_hash text, step_id text, executions bigint,
        attempts bigint, failures bigint, retries bigint)
    ON CONFLICT (key) DO UPDATE SET
        executions = kept.executions + excluded.executions,
        attempts = kept.attempts + excluded.attempts,
        failures = kept.failures + excluded.failures,
        retries = kept.retries + excluded.retries;

    WITH added AS (
        INSERT INTO step_durations AS kept (key, bucket, finished, microseconds, shortest, longest)
        SELECT
            sha256(convert_to(jsonb_build_array(new.definition_hash, new.step_id)::text, 'UTF8')),
            new.bucket, new.finished, new.microseconds, new.shortest, new.longest
        FROM jsonb_to_recordset(durations) AS new (definition_hash text, step_id text,
            bucket integer, finished bigint, microseconds numeric, shortest bigint, longest bigint)
        ON CONFLICT (key, bucket) DO UPDATE SET
            finished = kept.finished + excluded.finished,
            microseconds = kept.microseconds + excluded.microseconds,
            shortest = least(kept.shortest, excluded.shortest),
            longest = greatest(kept.longest, excluded.longest)
        RETURNING kept.key
    )
    SELECT array_agg(DISTINCT added.key) INTO keys FROM added;

    -- the percentiles of percentile_cont, in whose place the durations of a bucket lie evenly between
    -- its shortest and its longest
    WITH bucket AS (
        SELECT kept.key, kept.finished, kept.microseconds, kept.shortest, kept.longest,
            sum(kept.finished) OVER (PARTITION BY kept.key ORDER BY kept.bucket) - kept.finished
                AS before,
            sum(kept.finished) OVER (PARTITION BY kept.key) AS total
        FROM step_durations AS kept
        WHERE kept.key = ANY (keys)
    ),
    place AS (
        SELECT bucket.key, wanted.percentile, wanted.rank,
            bucket.shortest + (bucket.longest - bucket.shortest)
                * (neighbour.rank - bucket.before::double precision)
                / greatest(bucket.finished - 1, 1) AS microseconds
        FROM bucket
        CROSS JOIN LATERAL (
            SELECT part.percentile, part.percentile * (bucket.total - 1)::double precision AS rank
            FROM (VALUES (0.5::double precision), (0.9), (0.99)) AS part (percentile)
        ) AS wanted
        CROSS JOIN LATERAL (VALUES (floor(wanted.rank)), (floor(wanted.rank) + 1))
            AS neighbour (rank)
        WHERE neighbour.rank >= bucket.before AND neighbour.rank < bucket.before + bucket.finished
    ),
    percentile AS (
        SELECT place.key, place.percentile, (min(place.microseconds)
            + (max(place.microseconds) - min(place.microseconds))
                * (place.rank - floor(place.rank))) / 1000000 AS seconds
        FROM place
        GROUP BY place.key, place.percentile, place.rank
    ),
    percentiles AS (
        SELECT percentile.key,
            max(percentile.seconds) FILTER (WHERE percentile.percentile = 0.5) AS p50,
            max(percentile.seconds) FILTER (WHERE percentile.percentile = 0.9) AS p90,
            max(percentile.seconds) FILTER (WHERE percentile.percentile = 0.99) AS p99
        FROM percentile
        GROUP BY percentile.key
    ),
    sums AS (
        SELECT bucket.key, sum(bucket.finished) AS finished,
            sum(bucket.microseconds) AS microseconds, max(bucket.longest) AS longest
        FROM bucket
        GROUP BY bucket.key
    )
    UPDATE step_statistics AS kept
    SET finished = sums.finished,
        mean_seconds = sums.microseconds::double precision / sums.finished::double precision / 1000000,
        p50_seconds = percentiles.p50,
        p90_seconds = percentiles.p90,
        p99_seconds = percentiles.p99,
        longest_seconds = sums.longest::double precision / 1000000
    FROM sums
    JOIN percentiles ON percentiles.key = sums.key
    WHERE sums.key = kept.key;

    INSERT INTO failure_statistics AS kept
        (key, definition_hash, step_id, error_class, failures, flows, last_failed_at)
    SELECT sha256(convert_to(jsonb_build_array(new.definition_hash, new.step_id,
            new.error_class)::text, 'UTF8')),
        nullif(new.definition_hash, ''), new.step_id, new.error_class, new.failures, new.flows,
        new.last_failed_at
    FROM jsonb_to_recordset(failures) AS new (definition_hash text, step_id text,
        error_class text, failures bigint, flows bigint, last_failed_at timestamptz)
    ON CONFLICT (key) DO UPDATE SET
        failures = kept.failures + excluded.failures,
        flows = kept.flows + excluded.flows,
        last_failed_at = greatest(kept.last_failed_at, excluded.last_failed_at);

    INSERT INTO hourly_throughput AS kept
        (hour, events, flows_started, flows_completed, flows_cancelled, steps_finished,
            steps_failed, retries)
    SELECT new.hour, new.events, new.flows_started, new.flows_completed, new.flows_cancelled,
        new.steps_finished, new.steps_failed, new.retries
    FROM jsonb_to_recordset(hours) AS new (hour timestamptz, events bigint, flows_started bigint,
        flows_completed bigint, flows_cancelled bigint, steps_finished bigint,
        steps_failed bigint, retries bigint)
    ON CONFLICT (hour) DO UPDATE SET
        events = kept.events + excluded.events,
        flows_started = kept.flows_started + excluded.flows_started,
        flows_completed = kept.flows_completed + excluded.flows_completed,
        flows_cancelled = kept.flows_cancelled + excluded.flows_cancelled,
        steps_finished = kept.steps_finished + excluded.steps_finished,
        steps_failed = kept.steps_failed + excluded.steps_failed,
        retries = kept.retries + excluded.retries;

    -- the artifacts that came with the new events; their bodies are not read
    SELECT jsonb_agg(jsonb_build_array(stored.kind, stored.upload_id, stored.artifacts,
            stored.bytes)),
        array_agg(stored.upload_id) FILTER (WHERE stored.upload_id IS NOT NULL)
    INTO artifacts, uploads
    FROM (
        SELECT artifact.kind, artifact.upload_id, count(*) AS artifacts,
            sum(coalesce(pg_column_size(artifact.payload), pg_column_size(artifact.content), 0))
                AS bytes
        FROM workflow_step_artifacts AS artifact
        WHERE artifact.flow_id = ANY (touched) AND artifact.flow_id <> ALL (counted)
            AND artifact.produced_in_seq > after AND artifact.produced_in_seq <= upto
        GROUP BY artifact.kind, artifact.upload_id
    ) AS stored;
    SELECT jsonb_object_agg(uploaded.upload_id, uploaded.bytes) INTO chunks
    FROM (
        SELECT chunk.upload_id, sum(pg_column_size(chunk.content)) AS bytes
        FROM workflow_step_artifact_chunks AS chunk
        WHERE chunk.upload_id = ANY (uploads)
        GROUP BY chunk.upload_id
    ) AS uploaded;
    INSERT INTO artifact_statistics AS kept (key, kind, artifacts, stored_bytes)
    SELECT sha256(convert_to(new.value ->> 0, 'UTF8')), new.value ->> 0,
        sum((new.value ->> 2)::bigint),
        sum((new.value ->> 3)::bigint + coalesce((chunks ->> (new.value ->> 1))::bigint, 0))
    FROM jsonb_array_elements(artifacts) AS new (value)
    GROUP BY new.value ->> 0
    ON CONFLICT (key) DO UPDATE SET
        artifacts = kept.artifacts + excluded.artifacts,
        stored_bytes = kept.stored_bytes + excluded.stored_bytes;
END
$$

-- statement: add the next events to the statistics, 200,000 numbers at most, and return up to which
-- event all are counted then. No event up to the given number may be committed later: it is one that
-- feed_end() has returned, to a statement before this one
CREATE FUNCTION fold_statistics(upto bigint) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    counted bigint := lock_statistics();
    next_seq bigint;
    last_seq bigint;
    as_of timestamptz := now();
BEGIN
    IF counted < upto THEN
        SELECT min(event.seq) INTO next_seq
        FROM event_log AS event
        WHERE event.seq > counted AND event.seq <= upto;
        last_seq := least(next_seq + 199999, upto);
        PERFORM count_events(counted, last_seq, NULL);
        IF last_seq < upto THEN  -- the figures are those of the time of the last event
            SELECT event.ts INTO as_of
            FROM event_log AS event
            WHERE event.seq > counted AND event.seq <= last_seq
            ORDER BY event.seq DESC
            LIMIT 1;
            as_of := least(greatest(as_of, 'epoch'), now());
        END IF;
        counted := last_seq;
    END IF;
    UPDATE statistics_refresh SET refreshed_at = as_of, seq = counted;
    RETURN counted;
END
$$

-- statement: add the events of flows that leave the log to the statistics, if they were not counted
CREATE FUNCTION count_leaving_flows(flow_ids uuid[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    last_seq bigint;
BEGIN
    SELECT max(event.seq) INTO last_seq FROM event_log AS event WHERE event.flow_id = ANY (flow_ids);
    IF last_seq <= (SELECT refresh.seq FROM statistics_refresh AS refresh) THEN
        RETURN;
    END IF;
    PERFORM count_events(lock_statistics(), last_seq, flow_ids);
END
$$

-- statement: archive sealed flows, all or none: register them with the bundle that has them, and
-- delete their rows, and the artifacts that no other flow uses. It runs with the rights of the owner,
-- so that nobody needs the right to DELETE. Returns the numbers in the register
CREATE OR REPLACE FUNCTION archive_flows(
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

    PERFORM count_leaving_flows(flow_ids);

    SELECT coalesce(array_agg(DISTINCT consumer.name ORDER BY consumer.name), '{}') INTO named
    FROM feed_consumers AS consumer;
    RETURN QUERY
    INSERT INTO archived_flows AS registered
        (flow_id, version, chain_hash, first_seq, last_seq, bundle_sha256, consumers, actor,
            is_counted)
    SELECT asked.flow_id, asked.version, asked.head,
        (SELECT min(event.seq) FROM event_log AS event WHERE event.flow_id = asked.flow_id),
        (SELECT max(event.seq) FROM event_log AS event WHERE event.flow_id = asked.flow_id),
        bundle, named, archive_flows.actor, true
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

-- statement: what guards the log looks at the log's own tables, whatever the path of a session is
DO $$
BEGIN
    EXECUTE format('ALTER FUNCTION archive_flows(uuid[], integer[], bytea[], text, text)
        SET search_path = %I, pg_temp', current_schema());
END
$$
