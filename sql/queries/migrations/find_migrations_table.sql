-- Say whether the schema has been migrated before.
-- $1 text schema
SELECT EXISTS (
    SELECT 1 FROM pg_class JOIN pg_namespace ON pg_namespace.oid = pg_class.relnamespace
    WHERE pg_namespace.nspname = $1::text AND pg_class.relname = 'schema_migrations'
) AS found
