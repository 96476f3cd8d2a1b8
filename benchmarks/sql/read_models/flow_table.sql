-- A table of flows, kept by a trigger in the append's own transaction.
DROP INDEX event_log_input_idx; DROP INDEX event_log_outputs_idx;
CREATE TABLE flow_list (
    flow_id uuid PRIMARY KEY, state text NOT NULL, started_at timestamptz NOT NULL, last_event_at timestamptz NOT NULL,
    version integer NOT NULL, definition_hash text, step_count bigint
);
CREATE INDEX flow_list_newest_idx ON flow_list (started_at, flow_id);
CREATE INDEX flow_list_state_idx ON flow_list (state, started_at, flow_id) WHERE state <> 'completed';
CREATE FUNCTION keep_flow_list() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO flow_list AS flow (flow_id, state, started_at, last_event_at, version, definition_hash, step_count)
    SELECT DISTINCT ON (event.flow_id) event.flow_id,
        CASE event.event_type WHEN 'flowcompleted' THEN 'completed' WHEN 'stepfailed' THEN 'failed'
            WHEN 'userinteractionrequested' THEN 'awaiting_user_input' ELSE 'running' END,
        event.ts, event.ts, event.version + 1, event.payload ->> 'definition_hash', (event.payload ->> 'step_count')::bigint
    FROM added AS event
    ORDER BY event.flow_id, event.version DESC
    ON CONFLICT (flow_id) DO UPDATE SET state = excluded.state, last_event_at = excluded.last_event_at, version = excluded.version;
    RETURN NULL;
END
$$;
CREATE TRIGGER event_log_flow_list AFTER INSERT ON event_log REFERENCING NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION keep_flow_list()
