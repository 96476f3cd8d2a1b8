-- Give those of the relations that the schema lacks.
-- $1 text schema, $2 text[] relation
SELECT DISTINCT wanted.relation
FROM unnest($2::text[]) AS wanted (relation)
WHERE NOT EXISTS (SELECT 1 FROM pg_class AS relation
    WHERE relation.relname = wanted.relation
        AND relation.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = $1::text))
ORDER BY wanted.relation
