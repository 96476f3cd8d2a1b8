-- The default with LZ4, where the server was built with it.
ALTER TABLE workflow_step_artifacts ALTER COLUMN payload SET COMPRESSION lz4, ALTER COLUMN content SET COMPRESSION lz4
