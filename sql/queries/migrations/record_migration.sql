-- Record a migration that was applied.
-- $1 integer version, $2 text name, $3 text checksum (SHA-256 of the file), $4 timestamptz applied_at
INSERT INTO schema_migrations (version, name, checksum, applied_at) VALUES ($1, $2, $3, $4)
