-- Find artifacts by a range of their hashes; where artifacts are stored per flow, each once.
-- $1 text first, $2 text last, $3 bigint rows at most
SELECT DISTINCT artifact_hash
FROM workflow_step_artifacts
WHERE artifact_hash BETWEEN $1 AND $2
ORDER BY artifact_hash
LIMIT $3
