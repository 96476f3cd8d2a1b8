-- Without the index of the artifacts that events name.
DROP INDEX event_log_input_idx; DROP INDEX event_log_outputs_idx
