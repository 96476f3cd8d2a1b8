-- Count the events that there are to verify.
-- $1 uuid[] flow_id, or null for those of all flows
SELECT count(*) AS events
FROM event_log
WHERE $1::uuid[] IS NULL OR flow_id = ANY ($1::uuid[])
