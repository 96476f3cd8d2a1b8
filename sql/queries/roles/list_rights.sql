-- List what each role that does not own the tables may do with them; a relation that is not here, nobody else may touch.
SELECT rights.relation, rights.role, rights.privileges
FROM (VALUES
    ('event_log', 'application', ARRAY['SELECT', 'INSERT']),
    ('event_log_seq_seq', 'application', ARRAY['USAGE']),
    ('workflow_step_artifacts', 'application', ARRAY['SELECT', 'INSERT']),
    ('workflow_step_artifact_chunks', 'application', ARRAY['SELECT', 'INSERT']),
    ('workflow_step_executions', 'application', ARRAY['SELECT', 'INSERT', 'UPDATE']),
    ('flow_snapshots', 'application', ARRAY['SELECT', 'INSERT', 'UPDATE']),
    ('flows', 'application', ARRAY['SELECT']),
    ('schema_migrations', 'application', ARRAY['SELECT']),
    ('event_log', 'reader', ARRAY['SELECT']),
    ('event_log_seq_seq', 'reader', ARRAY['SELECT']),
    ('workflow_step_artifacts', 'reader', ARRAY['SELECT']),
    ('workflow_step_artifact_chunks', 'reader', ARRAY['SELECT']),
    ('workflow_step_executions', 'reader', ARRAY['SELECT']),
    ('flow_snapshots', 'reader', ARRAY['SELECT']),
    ('flows', 'reader', ARRAY['SELECT']),
    ('schema_migrations', 'reader', ARRAY['SELECT'])
) AS rights (relation, role, privileges)
