-- No flow of a distributed log can be archived, and every DELETE of history fails: the triggers of
-- migration 0022 look at tables of the whole log, and those of a shard cannot.

CREATE OR REPLACE FUNCTION archive_flows(
    flow_ids uuid[], versions integer[], heads bytea[],
    bundle text, actor text
) RETURNS TABLE (archived_flow_id uuid, archived_no bigint) LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'flows of a log that is distributed by Citus cannot be archived'
        USING ERRCODE = 'feature_not_supported';
END
$$;

CREATE OR REPLACE FUNCTION refuse_delete_of_live_flows() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only: % is refused', TG_TABLE_NAME, TG_OP
        USING ERRCODE = 'restrict_violation';
END
$$;

CREATE OR REPLACE FUNCTION refuse_delete_of_live_artifacts() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only: % is refused', TG_TABLE_NAME, TG_OP
        USING ERRCODE = 'restrict_violation';
END
$$;

CREATE OR REPLACE FUNCTION refuse_delete_of_live_chunks() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only: % is refused', TG_TABLE_NAME, TG_OP
        USING ERRCODE = 'restrict_violation';
END
$$;

CREATE OR REPLACE FUNCTION refuse_delete_of_used_artifacts() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only: % is refused', TG_TABLE_NAME, TG_OP
        USING ERRCODE = 'restrict_violation';
END
$$;
