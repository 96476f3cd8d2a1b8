-- Count the artifacts that there are to verify.
SELECT count(*) AS artifacts
FROM workflow_step_artifacts
