-- Give the statements that create those of the roles that are not there, quoted by the server.
-- $1 text[] role
SELECT format('CREATE ROLE %I NOLOGIN', wanted.name) AS statement
FROM unnest($1::text[]) WITH ORDINALITY AS wanted (name, place)
WHERE NOT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = wanted.name)
ORDER BY wanted.place
