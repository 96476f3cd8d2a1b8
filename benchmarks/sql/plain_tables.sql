-- The log and the artifacts without what makes them safe: no triggers, no checks, no foreign key
-- and no further indexes.
CREATE TABLE plain_log (LIKE event_log INCLUDING DEFAULTS INCLUDING STORAGE INCLUDING COMPRESSION);
ALTER TABLE plain_log ADD PRIMARY KEY (flow_id, seq), ADD UNIQUE (flow_id, version);
CREATE TABLE plain_artifacts (LIKE workflow_step_artifacts INCLUDING DEFAULTS INCLUDING STORAGE INCLUDING COMPRESSION);
ALTER TABLE plain_artifacts ADD PRIMARY KEY (artifact_hash);
