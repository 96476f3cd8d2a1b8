-- Return the statement that defines the function of the append.
SELECT pg_get_functiondef('append_rows'::regproc)
