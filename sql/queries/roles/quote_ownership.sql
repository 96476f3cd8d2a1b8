-- Give the statements that hand a schema, and the library's relations and functions in it, to their owner.
-- A sequence goes with the table that it counts for.
-- $1 text schema, $2 text owner, $3 text[] relation, $4 text[] function
SELECT format('ALTER SCHEMA %I OWNER TO %I', $1::text, $2::text) AS statement
UNION ALL
SELECT format('ALTER TABLE %I.%I OWNER TO %I', $1::text, relation.relname, $2::text)
FROM pg_class AS relation
WHERE relation.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = $1::text)
    AND relation.relname = ANY ($3::text[]) AND relation.relkind <> 'S'
UNION ALL
SELECT format(
    'ALTER FUNCTION %I.%I(%s) OWNER TO %I',
    $1::text, routine.proname, pg_get_function_identity_arguments(routine.oid), $2::text
)
FROM pg_proc AS routine
WHERE routine.pronamespace = (SELECT oid FROM pg_namespace WHERE nspname = $1::text)
    AND routine.proname = ANY ($4::text[])
