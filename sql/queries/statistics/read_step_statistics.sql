-- Read how long steps take and how often they fail, by step id.
SELECT step_id, executions, finished, attempts, failures, retries, failure_rate, mean_seconds, p50_seconds, p90_seconds,
    p99_seconds, longest_seconds
FROM step_statistics
ORDER BY step_id COLLATE "C"
