-- Ask whether the server still works on another session's statement, and end that session if not.

-- name: end_abandoned_session
-- End a session whose client has given it up, if it waits for that client in a transaction: until
-- then it keeps its locks.
-- $1 integer process id, $2 integer milliseconds for which it has been waiting at least
SELECT pg_terminate_backend(activity.pid)
FROM pg_stat_activity AS activity
WHERE activity.pid = $1::integer AND activity.usename = current_user
    AND activity.datname = current_database() AND activity.backend_type = 'client backend'
    AND activity.state IN ('active', 'idle in transaction', 'idle in transaction (aborted)')
    AND activity.wait_event_type = 'Client'
    AND activity.state_change <= clock_timestamp() - $2::integer * interval '1 ms'

-- name: find_running_statement
-- Return whether a session works on a statement, and whether the server keeps from this role what
-- its sessions do. A session that waits for its client does not work; but that of a coordinator of
-- Citus seems to while it waits for other nodes. The process id is null behind a pooler; then any
-- session of this role counts that has worked on a statement for that long.
-- $1 integer process id, or null, $2 integer milliseconds
SELECT coalesce(bool_or(activity.state = 'active'
        AND activity.wait_event_type IS DISTINCT FROM 'Client'
        AND ($1::integer IS NOT NULL OR activity.usename = current_user
            AND activity.query_start <= clock_timestamp() - $2::integer * interval '1 ms')), false)
        AS is_running,
    coalesce(bool_or(activity.state = 'active'), false)
        AND EXISTS (SELECT 1 FROM pg_extension WHERE extname = 'citus') AS may_wait_for_nodes,
    coalesce(bool_or(activity.state IS NULL OR activity.state = 'disabled'), false) AS is_hidden
FROM pg_stat_activity AS activity
WHERE activity.backend_type = 'client backend' AND activity.pid <> pg_backend_pid()
    AND activity.datname = current_database() AND activity.pid = coalesce($1::integer, activity.pid)
