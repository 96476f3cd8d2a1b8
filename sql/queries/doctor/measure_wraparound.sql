-- Say how old the oldest transaction and multixact ids of each database are, the oldest first, and when VACUUM is forced.
-- The server stops writing in all of them when one reaches 2^31 (PostgreSQL manual, section 24.1.5).
SELECT datname::text AS database, greatest(age(datfrozenxid), mxid_age(datminmxid)) AS age,
    greatest(current_setting('autovacuum_freeze_max_age')::bigint,
        current_setting('autovacuum_multixact_freeze_max_age')::bigint) AS forced_at,
    datallowconn AS accepts_connections
FROM pg_database
ORDER BY age DESC, datname
