-- The numbers of a distributed log after a crash of the coordinator. The sequence of seq is in the
-- coordinator's write-ahead log, which its own commits flush; but Citus commits an append on a
-- worker first. So a coordinator that recovers from a crash may have an older value of the
-- sequence, and would take numbers again that events on the workers have.
--
-- event_log_seq_checks has a value if the sequence was compared with the log since the coordinator
-- last recovered: PostgreSQL resets an unlogged sequence after a crash, when a standby is promoted
-- and when a base backup is restored (manual, CREATE SEQUENCE, UNLOGGED). A value is visible to all
-- sessions at once, so that no append waits for the commit of another one.

DO $$
DECLARE
    privilege record;
BEGIN
    IF to_regclass('event_log_seq_checks') IS NOT NULL THEN
        RETURN;
    END IF;
    CREATE UNLOGGED SEQUENCE event_log_seq_checks;
    FOR privilege IN
        SELECT acl.privilege_type AS name, acl.grantee
        FROM pg_class AS sequence
        CROSS JOIN aclexplode(sequence.relacl) AS acl
        WHERE sequence.oid = 'event_log_seq_seq'::regclass AND acl.grantee <> sequence.relowner
    LOOP
        EXECUTE format('GRANT %s ON SEQUENCE event_log_seq_checks TO %s', privilege.name,
            CASE privilege.grantee WHEN 0 THEN 'PUBLIC' ELSE privilege.grantee::regrole::text END);
    END LOOP;
    IF NOT EXISTS (SELECT 1 FROM event_log) THEN
        PERFORM nextval('event_log_seq_checks');
    END IF;
END
$$;

-- Return the last number that was taken: of the sequence, or of the log if its number is larger and
-- the sequence was not compared with it since the coordinator last recovered. Changes nothing.

CREATE OR REPLACE FUNCTION find_last_seq() RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    sequence oid := 'event_log_seq_seq'::regclass;
    checks oid := 'event_log_seq_checks'::regclass;
    no_later timestamptz;
    is_late boolean;
    count_writers text;
    writers bigint;
    logged_seq bigint;
BEGIN
    IF pg_sequence_last_value(checks) IS NULL THEN
        -- Every append asks for this comparison before it writes, so a lock for writing on a shard
        -- is of a transaction that a worker still commits or rolls back for the coordinator before
        -- its crash, by itself or, if it is prepared, when Citus recovers it. The wait is bounded:
        -- if the coordinator's host is gone, such a transaction lasts until TCP gives up.
        no_later := clock_timestamp() + least(interval '5 s',
            nullif(current_setting('statement_timeout'), '0')::interval / 2);
        count_writers := format($command$
            SELECT count(*)
            FROM pg_locks AS held
            JOIN pg_class AS shard ON shard.oid = held.relation
            WHERE held.mode = 'RowExclusiveLock'
                AND held.database = (SELECT own.oid FROM pg_database AS own
                    WHERE own.datname = current_database())
                AND shard.relname ~ '^event_log_[0-9]+$'
                AND shard.relnamespace = %L::regnamespace
            $command$, (SELECT relation.relnamespace::regnamespace FROM pg_class AS relation
                WHERE relation.oid = sequence));
        WHILE pg_sequence_last_value(checks) IS NULL LOOP
            SELECT count(*) INTO writers
            FROM run_command_on_workers(count_writers) AS answer
            WHERE answer.success AND answer.result <> '0';
            is_late := clock_timestamp() > no_later;
            IF writers = 0 OR is_late THEN
                SELECT max(log.seq) INTO logged_seq FROM event_log AS log;
                EXIT;
            END IF;
            PERFORM pg_sleep(0.05);
        END LOOP;
        IF pg_sequence_last_value(checks) IS NOT NULL THEN
            logged_seq := NULL;  -- another session has compared them meanwhile
        END IF;
    END IF;
    RETURN greatest(coalesce(pg_sequence_last_value(sequence), 0), logged_seq);
END
$$;

-- Compare the sequence with the log if that was not done since the coordinator last recovered: take
-- the numbers up to the log's last one, and some more, which a transaction may have that a worker
-- commits later than the wait above. Appends that do this at the same time take the numbers
-- together; nextval(), unlike setval(), needs no lock for that, and no right to change a sequence.

CREATE OR REPLACE FUNCTION check_seq() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    spare constant bigint := 100000;
    wanted_seq bigint;
BEGIN
    IF pg_sequence_last_value('event_log_seq_checks'::regclass) IS NOT NULL THEN
        RETURN;
    END IF;
    wanted_seq := find_last_seq() + spare;
    WHILE pg_sequence_last_value('event_log_seq_checks'::regclass) IS NULL LOOP
        IF (SELECT max(nextval('event_log_seq_seq')) FROM generate_series(1, 1000)) >= wanted_seq
        THEN
            PERFORM nextval('event_log_seq_checks');
        END IF;
    END LOOP;
END
$$;

-- The function of migration 0005, which describes it, with the last number of find_last_seq(). A
-- transaction over several workers releases its lock when it is committed on the coordinator, even
-- if a worker was lost that has it prepared: Citus commits it there later, as pg_dist_transaction
-- records. So the end of the feed is returned when no such transaction is left.

CREATE OR REPLACE FUNCTION feed_end() RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    sequence oid := 'event_log_seq_seq'::regclass;
    last_seq bigint;
    first_locked bigint;
    committed text[];
    unsettled bigint := 1;
    no_later timestamptz;
BEGIN
    IF pg_is_in_recovery() THEN
        RAISE EXCEPTION 'a standby does not know who is writing: read the feed from the primary'
            USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    -- in this order: an append with a number up to this one took its lock before the number, and
    -- still holds it or has ended
    last_seq := find_last_seq();
    -- a lock has 31 bits of the number; one that seems to be far behind was taken after the line
    -- above
    SELECT min(last_seq - held.behind) INTO first_locked
    FROM (SELECT (last_seq - locks.objid::bigint) & 2147483647 AS behind
            FROM pg_locks AS locks
            WHERE locks.locktype = 'advisory' AND locks.objsubid = 2 AND locks.classid = sequence
                AND locks.database = (SELECT own.oid FROM pg_database AS own
                    WHERE own.datname = current_database())) AS held
    WHERE held.behind < 1073741824;
    committed := ARRAY(SELECT recorded.gid FROM pg_dist_transaction AS recorded);
    no_later := clock_timestamp() + interval '5 s';
    WHILE committed <> '{}' AND unsettled > 0 LOOP
        SELECT count(*) INTO unsettled
        FROM run_command_on_workers($command$
            SELECT coalesce(jsonb_agg(prepared.gid), '[]') FROM pg_prepared_xacts AS prepared
            $command$) AS answer
        WHERE CASE WHEN answer.success THEN answer.result::jsonb ?| committed ELSE true END;
        IF unsettled > 0 AND clock_timestamp() > no_later THEN
            RAISE EXCEPTION 'a worker has not completed a transaction that is committed'
                USING ERRCODE = 'lock_not_available',
                    HINT = 'Citus completes it within citus.recover_2pc_interval.';
        END IF;
        PERFORM pg_sleep(CASE WHEN unsettled > 0 THEN 0.01 ELSE 0 END);
    END LOOP;
    RETURN coalesce(first_locked, last_seq);
END
$$;

-- What this file adds belongs to the owner of the log, so that its migrations may replace it.

DO $$
DECLARE
    owner regrole;
BEGIN
    SELECT log.relowner::regrole INTO owner
    FROM pg_class AS log
    WHERE log.oid = 'event_log'::regclass;
    EXECUTE format('ALTER SEQUENCE event_log_seq_checks OWNER TO %s', owner);
    EXECUTE format('ALTER FUNCTION find_last_seq() OWNER TO %s', owner);
    EXECUTE format('ALTER FUNCTION check_seq() OWNER TO %s', owner);
END
$$;
