-- Say how many seconds ahead of the server's clock the newest flow began; less than 0: it began before, null: there is none.
SELECT extract(epoch FROM max(ts) - clock_timestamp())::double precision AS seconds
FROM event_log
WHERE version = 0
