-- Never compressed; out of line when a row is above 2 KB.
ALTER TABLE workflow_step_artifacts ALTER COLUMN payload SET STORAGE EXTERNAL, ALTER COLUMN content SET STORAGE EXTERNAL
