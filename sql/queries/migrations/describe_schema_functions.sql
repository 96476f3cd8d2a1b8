-- Write the statements that create a schema's functions and procedures; the server names their schema, this does not.
-- $1 text schema
SELECT routine.command || substr(
    rtrim(pg_get_functiondef(routine.oid), E'\n'), length(routine.command || quote_ident($1::text) || '.') + 1
) AS statement
FROM (
    SELECT oid, proname, CASE prokind WHEN 'p' THEN 'CREATE OR REPLACE PROCEDURE ' ELSE 'CREATE OR REPLACE FUNCTION ' END
        AS command
    FROM pg_proc
    WHERE prokind IN ('f', 'p', 'w') AND pronamespace = (SELECT oid FROM pg_namespace WHERE nspname = $1::text)
) AS routine
WHERE NOT EXISTS (SELECT 1 FROM pg_depend AS dependency
    WHERE dependency.classid = 'pg_proc'::regclass AND dependency.objid = routine.oid AND dependency.deptype = 'e')
ORDER BY routine.proname COLLATE "C", pg_get_function_identity_arguments(routine.oid) COLLATE "C"
