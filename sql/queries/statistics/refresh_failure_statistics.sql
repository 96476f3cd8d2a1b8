-- Refresh failure_statistics, blocking no reader.
REFRESH MATERIALIZED VIEW CONCURRENTLY failure_statistics
