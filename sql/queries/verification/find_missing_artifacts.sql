-- Give those of the hashes that no artifact has.
-- $1 text[] artifact_hash
SELECT wanted.artifact_hash
FROM unnest($1::text[]) AS wanted (artifact_hash)
WHERE NOT EXISTS (SELECT 1 FROM workflow_step_artifacts AS stored WHERE stored.artifact_hash = wanted.artifact_hash)
