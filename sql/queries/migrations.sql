-- Apply migrations, and describe the schema that they make.

-- name: create_migrations_table
-- Create the table that records the applied migrations.
CREATE TABLE schema_migrations (
    version integer NOT NULL,
    name text NOT NULL,
    checksum text NOT NULL,
    applied_at timestamptz NOT NULL,
    CONSTRAINT schema_migrations_pkey PRIMARY KEY (version),
    CONSTRAINT schema_migrations_checksum_check CHECK (checksum ~ '^[0-9a-f]{64}$')
)

-- name: describe_schema_columns
-- Return the statements that set the storage of columns, and that make a column own its sequence.
-- $1 text schema
SELECT part.statement AS statement
FROM (
    SELECT relation.oid, relation.relname, attribute.attnum, format(
        'ALTER TABLE %I ALTER COLUMN %I SET STORAGE %s', relation.relname, attribute.attname,
        CASE attribute.attstorage WHEN 'p' THEN 'PLAIN' WHEN 'e' THEN 'EXTERNAL'
            WHEN 'm' THEN 'MAIN' ELSE 'EXTENDED' END
    ) AS statement
    FROM pg_class AS relation
    JOIN pg_attribute AS attribute ON attribute.attrelid = relation.oid
    JOIN pg_type AS data_type ON data_type.oid = attribute.atttypid
    WHERE relation.relkind = 'r' AND attribute.attnum > 0
        AND attribute.attstorage <> data_type.typstorage
        AND relation.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = $1::text)
    UNION ALL
    SELECT relation.oid, relation.relname, attribute.attnum, format(
        'ALTER SEQUENCE %I OWNED BY %I.%I', sequence.relname, relation.relname, attribute.attname
    )
    FROM pg_class AS sequence
    JOIN pg_depend AS dependency
        ON dependency.classid = 'pg_class'::regclass AND dependency.objid = sequence.oid
        AND dependency.refclassid = 'pg_class'::regclass AND dependency.deptype = 'a'
    JOIN pg_class AS relation ON relation.oid = dependency.refobjid
    JOIN pg_attribute AS attribute
        ON attribute.attrelid = relation.oid AND attribute.attnum = dependency.refobjsubid
    WHERE sequence.relkind = 'S'
        AND sequence.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = $1::text)
) AS part
WHERE NOT EXISTS (SELECT 1 FROM pg_depend AS dependency
    WHERE dependency.classid = 'pg_class'::regclass AND dependency.objid = part.oid
        AND dependency.deptype = 'e')
ORDER BY part.relname COLLATE "C", part.attnum, part.statement COLLATE "C"

-- name: describe_schema_constraints
-- Return the statements that add the constraints which CREATE TABLE does not: foreign keys, and
-- those that are not validated.
-- $1 text schema
SELECT format(
    E'ALTER TABLE %I ADD CONSTRAINT %I\n    %s',
    relation.relname, rule.conname, pg_get_constraintdef(rule.oid, true)
) AS statement
FROM pg_constraint AS rule
JOIN pg_class AS relation ON relation.oid = rule.conrelid
WHERE (rule.contype = 'f' OR (rule.contype = 'c' AND NOT rule.convalidated))
    AND relation.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = $1::text)
    AND NOT EXISTS (SELECT 1 FROM pg_depend AS dependency
        WHERE dependency.classid = 'pg_class'::regclass AND dependency.objid = relation.oid
            AND dependency.deptype = 'e')
ORDER BY relation.relname COLLATE "C", rule.conname COLLATE "C"

-- name: describe_schema_domains
-- Return the statements that create a schema's domains.
-- $1 text schema
SELECT format('CREATE DOMAIN %I AS %s', data_type.typname,
        format_type(data_type.typbasetype, data_type.typtypmod))
    || CASE WHEN data_type.typnotnull THEN ' NOT NULL' ELSE '' END
    || coalesce((SELECT string_agg(format(E'\n    CONSTRAINT %I %s', rule.conname,
            pg_get_constraintdef(rule.oid, true)), '' ORDER BY rule.conname COLLATE "C")
        FROM pg_constraint AS rule
        WHERE rule.contypid = data_type.oid AND rule.contype = 'c'), '') AS statement
FROM pg_type AS data_type
WHERE data_type.typtype = 'd'
    AND data_type.typnamespace = (SELECT oid FROM pg_namespace WHERE nspname = $1::text)
    AND NOT EXISTS (SELECT 1 FROM pg_depend AS dependency
        WHERE dependency.classid = 'pg_type'::regclass AND dependency.objid = data_type.oid
            AND dependency.deptype = 'e')
ORDER BY data_type.typname COLLATE "C"

-- name: describe_schema_functions
-- Return the statements that create a schema's functions and procedures, without the schema's name;
-- where a search path begins with it, it is named public.
-- $1 text schema
SELECT routine.command || replace(
    substr(
        rtrim(pg_get_functiondef(routine.oid), E'\n'),
        length(routine.command || quote_ident($1::text) || '.') + 1
    ),
    E'\n SET search_path TO ''' || replace($1::text, '''', '''''') || ''', ',
    E'\n SET search_path TO ''public'', '
) AS statement
FROM (
    SELECT oid, proname, CASE prokind
        WHEN 'p' THEN 'CREATE OR REPLACE PROCEDURE ' ELSE 'CREATE OR REPLACE FUNCTION ' END
        AS command
    FROM pg_proc
    WHERE prokind IN ('f', 'p', 'w')
        AND pronamespace = (SELECT oid FROM pg_namespace WHERE nspname = $1::text)
) AS routine
WHERE NOT EXISTS (SELECT 1 FROM pg_depend AS dependency
    WHERE dependency.classid = 'pg_proc'::regclass AND dependency.objid = routine.oid
        AND dependency.deptype = 'e')
ORDER BY routine.proname COLLATE "C", pg_get_function_identity_arguments(routine.oid) COLLATE "C"

-- name: describe_schema_indexes
-- Return the statements that create a schema's indexes; those of constraints are created with their
-- tables.
-- $1 text schema
SELECT pg_get_indexdef(index.indexrelid, 0, true)
    || CASE WHEN index.indisvalid THEN '' ELSE ' /* invalid */' END AS statement
FROM pg_index AS index
JOIN pg_class AS relation ON relation.oid = index.indexrelid
WHERE relation.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = $1::text)
    AND NOT EXISTS (SELECT 1 FROM pg_constraint
        WHERE conindid = index.indexrelid AND contype IN ('p', 'u', 'x'))
    AND NOT EXISTS (SELECT 1 FROM pg_depend AS dependency
        WHERE dependency.classid = 'pg_class'::regclass AND dependency.objid = index.indrelid
            AND dependency.deptype = 'e')
ORDER BY relation.relname COLLATE "C"

-- name: describe_schema_search_path
-- Set the search path to a schema until the transaction ends, so that its names are written
-- unqualified.
-- $1 text schema
SELECT set_config('search_path', quote_ident($1::text), true)

-- name: describe_schema_sequences
-- Return the statements that create a schema's sequences; those of identity columns are created
-- with their tables.
-- $1 text schema
SELECT format(
    E'CREATE %sSEQUENCE %I AS %s\n    START %s INCREMENT %s MINVALUE %s MAXVALUE %s CACHE %s %s',
    CASE relation.relpersistence WHEN 'u' THEN 'UNLOGGED ' ELSE '' END,
    relation.relname, format_type(sequence.seqtypid, NULL),
    sequence.seqstart, sequence.seqincrement, sequence.seqmin, sequence.seqmax, sequence.seqcache,
    CASE WHEN sequence.seqcycle THEN 'CYCLE' ELSE 'NO CYCLE' END
) AS statement
FROM pg_sequence AS sequence
JOIN pg_class AS relation ON relation.oid = sequence.seqrelid
WHERE relation.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = $1::text)
    AND NOT EXISTS (SELECT 1 FROM pg_depend AS dependency
        WHERE dependency.classid = 'pg_class'::regclass AND dependency.objid = relation.oid
            AND dependency.deptype IN ('e', 'i'))
ORDER BY relation.relname COLLATE "C"

-- name: describe_schema_tables
-- Return the statements that create a schema's tables, with columns and with those constraints that
-- CREATE TABLE can have. NOT NULL is written with its column: PostgreSQL 18 also stores it as a
-- constraint, earlier servers do not.
-- $1 text schema
SELECT format(
    E'CREATE %sTABLE %I (\n    %s\n)%s',
    CASE relation.relpersistence WHEN 'u' THEN 'UNLOGGED ' ELSE '' END,
    relation.relname,
    (SELECT string_agg(part.definition, E',\n    '
        ORDER BY part.is_constraint, part.place, part.name COLLATE "C")
        FROM (
            SELECT false AS is_constraint, attribute.attnum AS place, '' AS name,
                format('%I %s', attribute.attname,
                    format_type(attribute.atttypid, attribute.atttypmod))
                || CASE WHEN attribute.attcollation <> data_type.typcollation
                    THEN format(' COLLATE %s', attribute.attcollation::regcollation) ELSE '' END
                || CASE WHEN attribute.attnotnull THEN ' NOT NULL' ELSE '' END
                || CASE
                    WHEN attribute.attidentity = 'a' THEN ' GENERATED ALWAYS AS IDENTITY'
                    WHEN attribute.attidentity = 'd' THEN ' GENERATED BY DEFAULT AS IDENTITY'
                    WHEN attribute.attgenerated = 's'
                        THEN format(' GENERATED ALWAYS AS (%s) STORED', value.expression)
                    WHEN attribute.attgenerated = 'v'
                        THEN format(' GENERATED ALWAYS AS (%s) VIRTUAL', value.expression)
                    WHEN value.expression IS NOT NULL THEN format(' DEFAULT %s', value.expression)
                    ELSE ''
                END AS definition
            FROM pg_attribute AS attribute
            JOIN pg_type AS data_type ON data_type.oid = attribute.atttypid
            LEFT JOIN (SELECT adrelid, adnum, pg_get_expr(adbin, adrelid) AS expression
                FROM pg_attrdef) AS value
                ON value.adrelid = attribute.attrelid AND value.adnum = attribute.attnum
            WHERE attribute.attrelid = relation.oid AND attribute.attnum > 0
                AND NOT attribute.attisdropped
            UNION ALL
            SELECT true, position(rule.contype::text IN 'puxc'), rule.conname,
                format('CONSTRAINT %I %s', rule.conname, pg_get_constraintdef(rule.oid, true))
            FROM pg_constraint AS rule
            WHERE rule.conrelid = relation.oid AND rule.contype IN ('p', 'u', 'x', 'c')
                AND rule.convalidated
        ) AS part),
    CASE WHEN relation.reloptions IS NULL THEN ''
        ELSE format(' WITH (%s)', array_to_string(relation.reloptions, ', ')) END
) AS statement
FROM pg_class AS relation
WHERE relation.relkind = 'r'
    AND relation.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = $1::text)
    AND NOT EXISTS (SELECT 1 FROM pg_depend AS dependency
        WHERE dependency.classid = 'pg_class'::regclass AND dependency.objid = relation.oid
            AND dependency.deptype = 'e')
ORDER BY relation.relname COLLATE "C"

-- name: describe_schema_triggers
-- Return the statements that create a schema's triggers, and those that change when a trigger
-- fires.
-- $1 text schema
SELECT part.statement AS statement
FROM pg_trigger AS trigger
JOIN pg_class AS relation ON relation.oid = trigger.tgrelid
CROSS JOIN LATERAL (
    SELECT 1 AS place, pg_get_triggerdef(trigger.oid, true) AS statement
    UNION ALL
    SELECT 2, format(
        'ALTER TABLE %I %s TRIGGER %I', relation.relname,
        CASE trigger.tgenabled WHEN 'D' THEN 'DISABLE'
            WHEN 'A' THEN 'ENABLE ALWAYS' ELSE 'ENABLE REPLICA' END,
        trigger.tgname
    )
    WHERE trigger.tgenabled <> 'O'
) AS part
WHERE NOT trigger.tgisinternal
    AND relation.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = $1::text)
    AND NOT EXISTS (SELECT 1 FROM pg_depend AS dependency
        WHERE dependency.classid = 'pg_class'::regclass AND dependency.objid = relation.oid
            AND dependency.deptype = 'e')
ORDER BY relation.relname COLLATE "C", trigger.tgname COLLATE "C", part.place

-- name: describe_schema_types
-- Return the statements that create a schema's composite types.
-- $1 text schema
SELECT format(E'CREATE TYPE %I AS (\n    %s\n)', relation.relname,
    (SELECT string_agg(format('%I %s', attribute.attname,
            format_type(attribute.atttypid, attribute.atttypmod)), E',\n    '
        ORDER BY attribute.attnum)
        FROM pg_attribute AS attribute
        WHERE attribute.attrelid = relation.oid AND attribute.attnum > 0
            AND NOT attribute.attisdropped)
) AS statement
FROM pg_class AS relation
WHERE relation.relkind = 'c'
    AND relation.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = $1::text)
    AND NOT EXISTS (SELECT 1 FROM pg_depend AS dependency
        WHERE dependency.classid = 'pg_type'::regclass AND dependency.objid = relation.reltype
            AND dependency.deptype = 'e')
ORDER BY relation.relname COLLATE "C"

-- name: describe_schema_views
-- Return the statements that create a schema's views, plain and materialized.
-- $1 text schema
SELECT format(
    E'CREATE %sVIEW %I%s AS\n%s',
    CASE relation.relkind WHEN 'm' THEN 'MATERIALIZED ' ELSE '' END,
    relation.relname,
    CASE WHEN relation.reloptions IS NULL THEN ''
        ELSE format(' WITH (%s)', array_to_string(relation.reloptions, ', ')) END,
    rtrim(pg_get_viewdef(relation.oid, true), ';')
) AS statement
FROM pg_class AS relation
WHERE relation.relkind IN ('v', 'm')
    AND relation.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = $1::text)
    AND NOT EXISTS (SELECT 1 FROM pg_depend AS dependency
        WHERE dependency.classid = 'pg_class'::regclass AND dependency.objid = relation.oid
            AND dependency.deptype = 'e')
ORDER BY relation.relname COLLATE "C"

-- name: find_migrations_table
-- Return whether the schema has been migrated before.
-- $1 text schema
SELECT EXISTS (
    SELECT 1 FROM pg_class JOIN pg_namespace ON pg_namespace.oid = pg_class.relnamespace
    WHERE pg_namespace.nspname = $1::text AND pg_class.relname = 'schema_migrations'
) AS found

-- name: list_not_validated
-- Return the library's constraints against which the rows from before them have not been checked, and
-- the statement that checks them.
-- $1 text schema
SELECT relation.relname AS table_name, rule.conname AS name,
    format('ALTER TABLE %I.%I VALIDATE CONSTRAINT %I', $1::text, relation.relname, rule.conname)
        AS statement
FROM pg_constraint AS rule
JOIN pg_class AS relation ON relation.oid = rule.conrelid
WHERE relation.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = $1::text)
    AND (relation.relname, rule.conname) IN (('event_log', 'event_log_check'))
    AND NOT rule.convalidated

-- name: lock_log
-- Wait for the appends under way, and let no other begin until this transaction ends. An append locks
-- event_log first: so none waits for another table that a migration has locked, while it holds up the
-- migration.
LOCK TABLE event_log IN SHARE MODE

-- name: lock_log_exclusively
-- The same, and no reader, for migrations that need that later: a transaction that has read and then
-- appends would wait for a migration that waits for it.
LOCK TABLE event_log IN ACCESS EXCLUSIVE MODE

-- name: lock_migrations
-- Lock the migrations of a schema until this transaction ends; wait for another process that holds
-- the lock.
-- $1 text schema
SELECT pg_advisory_xact_lock(hashtextextended('chem_persistence migrations ' || $1::text, 0))

-- name: quote_create_schema
-- Return the statement that creates a schema, quoted by the server, or null if the schema exists.
-- $1 text schema
SELECT format('CREATE SCHEMA %I', $1::text) AS statement
WHERE NOT EXISTS (SELECT 1 FROM pg_namespace WHERE nspname = $1::text)

-- name: read_applied_migrations
-- Read the migrations that were applied, in order.
SELECT version, name, checksum FROM schema_migrations ORDER BY version

-- name: read_current_schema
-- Return the first schema of the search path that exists, or null.
SELECT current_schema()

-- name: record_migration
-- Record an applied migration.
-- $1 integer version, $2 text name, $3 text checksum (SHA-256 of the file), $4 timestamptz
-- applied_at
INSERT INTO schema_migrations (version, name, checksum, applied_at) VALUES ($1, $2, $3, $4)
