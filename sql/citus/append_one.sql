-- The append of one event on a distributed log: the function of migration 0029, which describes the
-- parameters, as a call of append_rows.

CREATE OR REPLACE FUNCTION append_one(
    flow uuid, place integer, previous bytea,
    token uuid, keeps boolean,
    event uuid, at timestamptz, link bytea, fact jsonb, context jsonb,
    step bigint, step_name text, print text,
    effect text,
    patience text
) RETURNS bigint LANGUAGE plpgsql AS $$
BEGIN
    RETURN (append_rows(
        ARRAY[ROW(flow, place, previous, token, NULL, NULL, keeps)::append_flow],
        ARRAY[ROW(flow, place, event, at, link, fact, context)::append_event],
        NULL,
        NULL,
        CASE WHEN step IS NULL THEN NULL
            WHEN print IS NULL THEN ARRAY[
                ROW(flow, step, 1, step_name, 'running', NULL, NULL, at, NULL, NULL)::append_step]
            ELSE ARRAY[ROW(flow, step, 0, step_name, 'finished', NULL, print, NULL, at,
                NULL)::append_step] END,
        patience))[1];
END
$$;
