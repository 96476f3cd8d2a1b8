-- Refresh step_statistics, blocking no reader.
REFRESH MATERIALIZED VIEW CONCURRENTLY step_statistics
