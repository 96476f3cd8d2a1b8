-- Give when the newest flow began, by the index of first events; null: there is none.
SELECT max(ts) AS newest_flow_at
FROM event_log
WHERE version = 0
