-- Read how many artifacts of which kind there are, and their bytes, by kind.
SELECT kind, artifacts, stored_bytes
FROM artifact_statistics
ORDER BY kind COLLATE "C"
