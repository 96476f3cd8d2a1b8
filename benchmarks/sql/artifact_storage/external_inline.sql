-- Never compressed; in the row as long as that is below 8 KB.
ALTER TABLE workflow_step_artifacts SET (toast_tuple_target = 8160),
    ALTER COLUMN payload SET STORAGE EXTERNAL, ALTER COLUMN content SET STORAGE EXTERNAL
