-- Refresh hourly_throughput, blocking no reader.
REFRESH MATERIALIZED VIEW CONCURRENTLY hourly_throughput
