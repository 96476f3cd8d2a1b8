-- The artifacts as the first migrations make them, without the reference to the log.
CREATE TABLE workflow_step_artifacts (
    artifact_hash text NOT NULL,
    kind text NOT NULL,
    payload jsonb,
    content bytea,
    media_type text NOT NULL,
    metadata jsonb NOT NULL,
    flow_id uuid NOT NULL,
    produced_in_seq bigint NOT NULL,
    CONSTRAINT workflow_step_artifacts_pkey PRIMARY KEY (artifact_hash)
)
