-- The index of the artifacts that events name, which collects PostgreSQL's default of new entries before it sorts them in.
ALTER INDEX event_log_artifact_idx RESET (gin_pending_list_limit)
