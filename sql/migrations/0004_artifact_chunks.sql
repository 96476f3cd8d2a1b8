-- Artifacts whose content is streamed: in chunks, so that neither writer nor reader ever holds all of it.
-- The storage of all columns stays PostgreSQL's default, which was measured: documentation/artifact-storage.md.
-- Each statement stands below a line that begins with "-- statement:"; they run one by one in one transaction.

-- statement: the chunks 0, 1, 2, ... of a content; they are written before its hash, and so its artifact, is known
CREATE TABLE workflow_step_artifact_chunks (
    upload_id uuid NOT NULL,
    chunk_no integer NOT NULL,
    content bytea NOT NULL,
    CONSTRAINT workflow_step_artifact_chunks_pkey PRIMARY KEY (upload_id, chunk_no),
    CONSTRAINT workflow_step_artifact_chunks_chunk_no_check CHECK (chunk_no >= 0),
    CONSTRAINT workflow_step_artifact_chunks_content_check CHECK (octet_length(content) BETWEEN 1 AND 1048576)
)

-- statement: the chunks that an artifact's content is in
ALTER TABLE workflow_step_artifacts ADD COLUMN upload_id uuid

-- statement: how many bytes they have together
ALTER TABLE workflow_step_artifacts ADD COLUMN content_size bigint

-- statement: an artifact's body is in one place
ALTER TABLE workflow_step_artifacts DROP CONSTRAINT workflow_step_artifacts_body_check

-- statement: which is one of three
ALTER TABLE workflow_step_artifacts ADD CONSTRAINT workflow_step_artifacts_body_check
    CHECK (num_nonnulls(payload, content, upload_id) = 1)

-- statement: the size is that of chunks
ALTER TABLE workflow_step_artifacts ADD CONSTRAINT workflow_step_artifacts_content_size_check
    CHECK (num_nonnulls(upload_id, content_size) <> 1 AND content_size >= 0)

-- statement: Citus accepts triggers on distributed tables only so; plain PostgreSQL has no such setting and does not mind
SET LOCAL citus.enable_unsafe_triggers = on

-- statement: chunks are content, so they do not change
CREATE TRIGGER workflow_step_artifact_chunks_append_only BEFORE UPDATE OR DELETE ON workflow_step_artifact_chunks
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change_of_history()

-- statement: nor do all of them at once
CREATE TRIGGER workflow_step_artifact_chunks_no_truncate BEFORE TRUNCATE ON workflow_step_artifact_chunks
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change_of_history()
