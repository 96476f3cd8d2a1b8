-- Compressed when a row is above 2 KB, and in the row as long as it fits a page.
ALTER TABLE workflow_step_artifacts ALTER COLUMN payload SET STORAGE MAIN, ALTER COLUMN content SET STORAGE MAIN
