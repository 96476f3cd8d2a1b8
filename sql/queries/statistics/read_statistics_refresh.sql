-- Read when the figures were refreshed.
SELECT refreshed_at
FROM statistics_refresh
