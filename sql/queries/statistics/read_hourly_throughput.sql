-- Read what happened hour by hour, the first hour first.
SELECT hour, events, flows_started, flows_completed, steps_finished, steps_failed, retries
FROM hourly_throughput
ORDER BY hour
