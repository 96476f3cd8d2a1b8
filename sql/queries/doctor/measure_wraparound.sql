-- Say how old the oldest transaction and multixact ids of each database are, the oldest first, and when VACUUM is forced.
-- The server stops writing in all of them when one reaches 2^31 (PostgreSQL manual, section 24.1.5).
SELECT ids.kind, database.datname::text AS database, ids.age, ids.forced_at
FROM pg_database AS database
CROSS JOIN LATERAL (
    VALUES ('transaction', age(database.datfrozenxid), current_setting('autovacuum_freeze_max_age')::bigint),
        ('multixact', mxid_age(database.datminmxid), current_setting('autovacuum_multixact_freeze_max_age')::bigint)
) AS ids (kind, age, forced_at)
ORDER BY ids.age DESC, database.datname, ids.kind
