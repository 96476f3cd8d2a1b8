-- Give the statement that creates the schema, quoted by the server, or null when it is there.
-- $1 text schema
SELECT format('CREATE SCHEMA %I', $1::text) AS statement
WHERE NOT EXISTS (SELECT 1 FROM pg_namespace WHERE nspname = $1::text)
