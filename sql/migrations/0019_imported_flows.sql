-- A flow that was imported is not given to workers: it may still run where it comes from. Its row is
-- due when something is said to it, not by itself, also after the rows were made anew from the log.
-- Each statement stands below a line that begins with "-- statement:"; they run one by one in one
-- transaction.

-- statement: the flows whose events another database has made
CREATE TABLE imported_flows (
    flow_id uuid PRIMARY KEY,
    imported_at timestamptz NOT NULL DEFAULT now()
)

-- statement: add the rows of flows that were given to workers, or that programs have begun, that
-- are not over and have none; return how many, at most as many as are asked for. An append that
-- found no row to change is waited for, and those that follow find the new one: a row that came
-- between would miss what they say. A flow that was imported is left to no worker
CREATE OR REPLACE FUNCTION add_flow_runs(most integer) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    missing uuid[];
    added uuid;
    rows bigint := 0;
BEGIN
    missing := ARRAY(
        SELECT event.flow_id
        FROM event_log AS event
        WHERE event.version = 0 AND event.event_type = 'flowinitialized'
            AND (event.payload ? 'due' OR event.metadata ? 'chem_persistence.run_by')
            AND NOT EXISTS (SELECT 1 FROM flow_runs AS run WHERE run.flow_id = event.flow_id)
            AND NOT EXISTS (SELECT 1 FROM event_log AS ending
                WHERE ending.flow_id = event.flow_id
                    AND ending.event_type IN ('flowcompleted', 'flowcancelled'))
        LIMIT most);
    IF missing = '{}' THEN
        RETURN 0;
    END IF;
    PERFORM set_config('lock_timeout', '2s', true);  -- claims and appends wait behind this lock
    LOCK TABLE flow_runs IN EXCLUSIVE MODE;
    FOR added IN
        INSERT INTO flow_runs AS run (flow_id, definition_hash, due_at, by_program)
        SELECT event.flow_id, event.payload ->> 'definition_hash', 'infinity',
            event.metadata ? 'chem_persistence.run_by'
        FROM event_log AS event
        WHERE event.flow_id = ANY (missing) AND event.version = 0
            AND NOT EXISTS (SELECT 1 FROM event_log AS ending
                WHERE ending.flow_id = event.flow_id
                    AND ending.event_type IN ('flowcompleted', 'flowcancelled'))
        ON CONFLICT DO NOTHING
        RETURNING run.flow_id
    LOOP
        IF NOT EXISTS (SELECT 1 FROM imported_flows AS imported WHERE imported.flow_id = added) THEN
            PERFORM change_flow_run(added, 0, false, true);
        END IF;
        rows := rows + 1;
    END LOOP;
    RETURN rows;
END
$$

-- statement: roles that may change the rows of flows, or read them, may add to this table, or read it
DO $$
DECLARE
    given record;
BEGIN
    FOR given IN
        SELECT own.grantee, bool_or(own.privilege_type = 'INSERT') AS may_change
        FROM pg_class AS relation
        CROSS JOIN LATERAL aclexplode(relation.relacl) AS own
        WHERE relation.oid = 'flow_runs'::regclass AND own.grantee <> relation.relowner
            AND own.privilege_type IN ('SELECT', 'INSERT')
        GROUP BY own.grantee
    LOOP
        EXECUTE format('GRANT %s ON imported_flows TO %s',
            CASE WHEN given.may_change THEN 'SELECT, INSERT' ELSE 'SELECT' END,
            CASE given.grantee WHEN 0 THEN 'PUBLIC' ELSE given.grantee::regrole::text END);
    END LOOP;
END
$$
