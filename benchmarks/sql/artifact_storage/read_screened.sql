-- Read the artifacts that the screening made of single molecules.
SELECT kind, payload, content FROM workflow_step_artifacts
WHERE kind IN ('Molecule', 'Standardised', 'Described', 'Embedded', 'Verdict', 'conformer')
ORDER BY artifact_hash
