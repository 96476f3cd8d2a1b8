-- Refresh artifact_statistics, blocking no reader.
REFRESH MATERIALIZED VIEW CONCURRENTLY artifact_statistics
