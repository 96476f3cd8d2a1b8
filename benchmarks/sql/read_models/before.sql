-- The indexes as they were before there were read models.
DROP INDEX event_log_setback_idx; DROP INDEX event_log_input_idx; DROP INDEX event_log_outputs_idx;
DROP INDEX event_log_first_event_idx; CREATE INDEX event_log_first_event_idx ON event_log (ts) WHERE version = 0
