-- Without the index of the artifacts that events name.
DROP INDEX event_log_artifact_idx
