-- One index of all artifacts that events name.
DROP INDEX event_log_input_idx; DROP INDEX event_log_outputs_idx;
CREATE INDEX all_outputs_idx ON event_log USING gin ((coalesce(payload -> 'outputs', payload -> 'input')) jsonb_path_ops)
    WHERE event_type IN ('stepfinished', 'flowinitialized')
