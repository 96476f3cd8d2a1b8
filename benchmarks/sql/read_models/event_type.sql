-- An index of all events by their type.
DROP INDEX event_log_input_idx; DROP INDEX event_log_outputs_idx;
CREATE INDEX event_type_idx ON event_log (event_type, seq)
