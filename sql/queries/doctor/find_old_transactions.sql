-- Find what keeps VACUUM from its work: transactions that are open for long, of sessions and prepared ones.
-- $1 interval
SELECT format('session %s of %s in %s', activity.pid, activity.usename, activity.datname) AS name,
    extract(epoch FROM clock_timestamp() - activity.xact_start)::double precision AS seconds,
    format('SELECT pg_terminate_backend(%s)', activity.pid) AS remedy
FROM pg_stat_activity AS activity
WHERE activity.xact_start < clock_timestamp() - $1::interval AND activity.backend_type = 'client backend'
    AND activity.pid <> pg_backend_pid()
UNION ALL
SELECT format('prepared transaction %L in %s', prepared.gid, prepared.database),
    extract(epoch FROM clock_timestamp() - prepared.prepared)::double precision,
    format('ROLLBACK PREPARED %L', prepared.gid)
FROM pg_prepared_xacts AS prepared
WHERE prepared.prepared < clock_timestamp() - $1::interval
ORDER BY seconds DESC
