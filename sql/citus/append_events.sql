-- The append on a distributed log: the function of migration 0021, which describes the documents and
-- the result. It makes rows of the documents for append_rows, which stores them, so that only one
-- function knows which statements Citus plans at a low cost.

CREATE OR REPLACE FUNCTION append_events(
    events text,
    artifacts text, artifact_payloads text[], artifact_contents bytea[],
    retries text,
    steps text,
    patience text
) RETURNS TABLE (stored_flow_id uuid, stored_version integer, stored_seq bigint) LANGUAGE plpgsql AS $$
DECLARE
    flow_rows append_flow[];
    event_rows append_event[];
    artifact_rows append_artifact[];
    retry_rows append_retry[];
    step_rows append_step[];
BEGIN
    SELECT array_agg(row(document.flow_id, document.version, document.event_id, document.ts,
                document.chain_hash, document.payload, document.metadata)::append_event
            ORDER BY document.flow_id, document.place),
        array_agg(row(document.flow_id, document.first_version, document.previous_hash,
                document.lease, document.holder, document.seconds, document.keeps)::append_flow
            ORDER BY document.flow_id) FILTER (WHERE document.is_first)
    INTO event_rows, flow_rows
    FROM (
        SELECT given.*, row_number() OVER (PARTITION BY given.flow_id ORDER BY given.place) = 1
            AS is_first
        FROM ROWS FROM (json_to_recordset(events::json) AS (flow_id uuid, version integer,
                event_id uuid, ts timestamptz, payload jsonb, metadata jsonb, chain_hash bytea,
                first_version integer, previous_hash bytea, lease uuid, holder uuid,
                seconds double precision, keeps boolean))
            WITH ORDINALITY AS given
            (flow_id, version, event_id, ts, payload, metadata, chain_hash, first_version,
                previous_hash, lease, holder, seconds, keeps, place)
    ) AS document;
    IF (SELECT bool_or(given.lease IS DISTINCT FROM flow.lease)
            FROM json_to_recordset(events::json) AS given (flow_id uuid, lease uuid)
            JOIN unnest(flow_rows) AS flow ON flow.flow_id = given.flow_id) THEN
        RAISE EXCEPTION 'appends to one flow carry different leases'
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF artifacts IS NOT NULL THEN
        artifact_rows := ARRAY(
            SELECT row(document.flow_id, document.version,
                coalesce(document.content_is_payload, false), document.artifact_hash, document.kind,
                document.media_type, document.metadata, artifact_payloads[document.place]::jsonb,
                artifact_contents[document.place])::append_artifact
            FROM ROWS FROM (json_to_recordset(artifacts::json) AS (artifact_hash text, kind text,
                    media_type text, metadata jsonb, flow_id uuid, version integer,
                    content_is_payload boolean))
                WITH ORDINALITY AS document
                (artifact_hash, kind, media_type, metadata, flow_id, version, content_is_payload,
                    place)
            ORDER BY document.place);
    END IF;
    IF retries IS NOT NULL THEN
        retry_rows := ARRAY(
            SELECT document FROM json_populate_recordset(NULL::append_retry, retries::json)
                AS document);
    END IF;
    IF steps IS NOT NULL THEN
        step_rows := ARRAY(
            SELECT document FROM json_populate_recordset(NULL::append_step, steps::json)
                AS document);
    END IF;
    RETURN QUERY
    SELECT stored.flow_id, stored.version, stored.seq
    FROM unnest(event_rows,
            append_rows(flow_rows, event_rows, artifact_rows, retry_rows, step_rows, patience))
        AS stored (flow_id, version, event_id, ts, chain_hash, payload, metadata, seq)
    WHERE stored.seq IS NOT NULL;
END
$$;

-- Each flow has its own row of an artifact, so that no flow uses that of another one.
CREATE OR REPLACE FUNCTION use_artifacts(flows uuid[], hashes text[]) RETURNS void LANGUAGE sql AS $$
$$;
