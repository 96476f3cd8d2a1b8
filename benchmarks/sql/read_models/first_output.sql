-- An index of the first output alone, which is what later steps take as their input.
DROP INDEX event_log_input_idx; DROP INDEX event_log_outputs_idx;
CREATE INDEX outputs_idx ON event_log USING hash ((payload #>> '{outputs,0}')) WHERE event_type = 'stepfinished'
