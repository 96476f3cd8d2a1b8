-- The statistics of a distributed log: the materialized view of migration 0006 whose query Citus
-- refuses, with a query that it runs and that returns the same rows. A view that has its new query
-- already is left alone, with its rows; one that is replaced keeps its owner and its privileges.

CREATE MATERIALIZED VIEW new_artifact_statistics AS
WITH chunks AS MATERIALIZED (
    SELECT chunk.upload_id AS upload_id, sum(pg_column_size(chunk.content)) AS bytes
    FROM workflow_step_artifact_chunks AS chunk
    GROUP BY chunk.upload_id
),
artifacts AS MATERIALIZED (
    SELECT
        artifact.kind AS kind,
        artifact.upload_id AS upload_id,
        count(*) AS artifacts,
        sum(coalesce(pg_column_size(artifact.payload), pg_column_size(artifact.content), 0)) AS bytes
    FROM workflow_step_artifacts AS artifact
    GROUP BY artifact.kind, artifact.upload_id
)
SELECT
    sha256(convert_to(artifacts.kind, 'UTF8')) AS key,
    artifacts.kind AS kind,
    sum(artifacts.artifacts)::bigint AS artifacts,
    sum(artifacts.bytes + coalesce(chunks.bytes, 0))::bigint AS stored_bytes
FROM artifacts
LEFT JOIN chunks ON chunks.upload_id = artifacts.upload_id
GROUP BY artifacts.kind
WITH NO DATA;

DO $$
DECLARE
    replaced record;
    privilege record;
BEGIN
    FOR replaced IN
        SELECT wanted.name, wanted.key, before.relowner::regrole AS owner, before.relacl,
            pg_get_viewdef(before.oid) = pg_get_viewdef(after.oid) AS is_equal
        FROM (VALUES ('artifact_statistics', 'key')) AS wanted (name, key)
        JOIN pg_class AS before ON before.oid = wanted.name::regclass
        JOIN pg_class AS after ON after.oid = ('new_' || wanted.name)::regclass
    LOOP
        IF replaced.is_equal THEN
            EXECUTE format('DROP MATERIALIZED VIEW %I', 'new_' || replaced.name);
            CONTINUE;
        END IF;
        EXECUTE format('DROP MATERIALIZED VIEW %I', replaced.name);
        EXECUTE format('ALTER MATERIALIZED VIEW %I RENAME TO %I', 'new_' || replaced.name, replaced.name);
        EXECUTE format('REFRESH MATERIALIZED VIEW %I', replaced.name);
        EXECUTE format('CREATE UNIQUE INDEX %I ON %I (%I)', replaced.name || '_key', replaced.name,
            replaced.key);
        EXECUTE format('ALTER MATERIALIZED VIEW %I OWNER TO %s', replaced.name, replaced.owner);
        FOR privilege IN
            SELECT acl.privilege_type AS name, acl.grantee
            FROM aclexplode(replaced.relacl) AS acl
            WHERE acl.grantee <> replaced.owner
        LOOP
            EXECUTE format('GRANT %s ON %I TO %s', privilege.name, replaced.name,
                CASE privilege.grantee WHEN 0 THEN 'PUBLIC' ELSE privilege.grantee::regrole::text END);
        END LOOP;
    END LOOP;
END
$$;
