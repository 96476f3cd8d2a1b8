-- Refresh statistics_refresh, blocking no reader.
REFRESH MATERIALIZED VIEW CONCURRENTLY statistics_refresh
