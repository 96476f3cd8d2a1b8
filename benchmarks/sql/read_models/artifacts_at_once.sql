-- The same, which sorts each new entry in at once.
ALTER INDEX event_log_artifact_idx SET (fastupdate = off)
