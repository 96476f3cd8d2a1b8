-- What is to be written: the templates of events and step rows, and the flows.
CREATE TABLE grown_event (shape integer, version integer, event_type text, payload text);
CREATE TABLE grown_step (shape integer, step_index bigint, step_id text, status text,
    attempts integer, retry_count bigint, fingerprint text, started integer, finished integer,
    error text);
CREATE UNLOGGED TABLE grown_flow (number bigint, flow_id uuid, shape integer, parent text,
    item integer, started_at timestamptz);
CREATE FUNCTION grown_input(number bigint) RETURNS text LANGUAGE sql IMMUTABLE AS $$
SELECT '{"molecule":"molecule-' || lpad(number::text, 7, '0') || '"}'
$$;
CREATE FUNCTION grown_output(number bigint) RETURNS text LANGUAGE sql IMMUTABLE AS $$
SELECT '{"energy":-' || number % 4000 || '.5,"rank":' || number || '}'
$$;
CREATE FUNCTION filled(template text, number bigint, parent text, item integer) RETURNS text
    LANGUAGE sql IMMUTABLE AS $$
SELECT replace(replace(replace(replace(replace(replace(template,
    '@label@', 'molecule-' || lpad(number::text, 7, '0')),
    '@in@', encode(sha256(convert_to(grown_input(number), 'UTF8')), 'hex')),
    '@out@', encode(sha256(convert_to(grown_output(number), 'UTF8')), 'hex')),
    '@f@', left(md5('f' || number) || md5('g' || number), 62)),
    '@parent@', coalesce(parent, '')),
    '9007199254740991', coalesce(item, 0)::text)
$$;
CREATE FUNCTION grown_event_id(number bigint, version integer) RETURNS uuid LANGUAGE sql IMMUTABLE AS $$
SELECT (lpad(to_hex(number * 64 + version), 12, '0') || '70008000'
    || left(md5(number || '/' || version), 9) || '000')::uuid
$$
