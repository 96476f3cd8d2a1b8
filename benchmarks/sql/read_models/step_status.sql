-- An index of the steps that stand failed or wait; the server then cannot change a step row without writing its other indexes too.
DROP INDEX event_log_input_idx; DROP INDEX event_log_outputs_idx;
CREATE INDEX status_idx ON workflow_step_executions (flow_id) WHERE status IN ('failed', 'awaiting_user_input')
