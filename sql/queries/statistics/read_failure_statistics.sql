-- Read how often steps failed in which way, by step id and class of the error.
SELECT step_id, error_class, failures, flows, last_failed_at
FROM failure_statistics
ORDER BY step_id COLLATE "C", error_class COLLATE "C"
