-- Read the statistics, and add to them what is new in the log.

-- name: fold_statistics
-- Add the next events to the statistics, up to a seq that feed_end() has returned to an earlier
-- statement; return up to which seq all events are counted then.
-- $1 bigint seq
SELECT fold_statistics($1) AS seq

-- name: read_artifact_statistics
-- Read the number of artifacts and their stored bytes, by kind.
SELECT kind, artifacts, stored_bytes
FROM artifact_statistics
ORDER BY kind COLLATE "C"

-- name: read_failure_statistics
-- Read the failures of steps, by definition, step id and error class.
SELECT definition_hash, step_id, error_class, failures, flows, last_failed_at
FROM failure_statistics
ORDER BY definition_hash COLLATE "C", step_id COLLATE "C", error_class COLLATE "C"

-- name: read_hourly_throughput
-- Read the throughput by hour, in order.
SELECT hour, events, flows_started, flows_completed, flows_cancelled, steps_finished,
    steps_failed, retries
FROM hourly_throughput
ORDER BY hour

-- name: read_statistics_refresh
-- Read when the statistics were refreshed.
SELECT refreshed_at
FROM statistics_refresh

-- name: read_step_statistics
-- Read the durations and failures of steps, by definition and step id. A step of which there is only
-- a retry has no execution.
SELECT definition_hash, step_id, executions, finished, attempts, failures, retries, failure_rate,
    mean_seconds, p50_seconds, p90_seconds,
    p99_seconds, longest_seconds
FROM step_statistics
WHERE executions > 0
ORDER BY definition_hash COLLATE "C", step_id COLLATE "C"
