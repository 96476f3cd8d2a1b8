-- Append to the log, and read pages of flows.

-- name: append_events
-- Append events as append_rows does, given as JSON documents, by the function of migration 0021,
-- which describes them. Return (flow_id, version, seq) in any order, and no row for a flow that is
-- left out.
-- $1 text events
-- $2 text artifacts, $3 text[] their payloads, $4 bytea[] their contents; all null without
-- artifacts
-- $5 text retries, or null
-- $6 text changes of step rows, or null
-- $7 text longest wait for another writer's lock, or null
SELECT stored_flow_id AS flow_id, stored_version AS version, stored_seq AS seq
FROM append_events($1, $2, $3, $4, $5, $6, $7)

-- name: append_one
-- Append one event without artifacts to a flow that has events, as append_rows does, by the function of
-- migration 0029, which describes the parameters. Return its seq, or null where append_rows does.
-- $1 uuid flow_id, $2 integer version, $3 bytea chain_hash of the event before it
-- $4 uuid lease, or null; $5 boolean whether a program keeps it, or null
-- $6 uuid event_id, $7 timestamptz ts, $8 bytea chain_hash, $9 jsonb payload, $10 jsonb metadata
-- $11 bigint step_index, $12 text step_id, $13 text fingerprint; null of what neither starts nor ends
-- a step
-- $14 text what it does to the row of its flow: 'call', 'end' or null
-- $15 text longest wait for another writer's lock, or null
SELECT append_one($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15) AS seq

-- name: append_rows
-- Append events to one or more flows, with their artifacts and step rows, by the function of
-- migration 0024, which describes the rows. Return the seq of each event in the order of the events,
-- and null for those of a flow whose version is not the one that its writer expects, or whose lease
-- is not the one that its writer has: an array of bigint in its binary form, for which the driver
-- need not ask for its type.
-- $1 append_flow[] flows
-- $2 append_event[] events
-- $3 append_artifact[] artifacts, or null
-- $4 append_retry[] retries, or null
-- $5 append_step[] changes of step rows, or null
-- $6 text longest wait for another writer's lock, or null
SELECT array_send(append_rows($1, $2, $3, $4, $5, $6)) AS seqs

-- name: describe_log
-- Return what is asked before the first append of a connection: the types of the parameters of
-- append_rows but the last, or null if there is no such function; and whether there is the function
-- of the trigger that a table has which Citus distributes. No table is read: the server has these
-- names in its caches, while to plan reads of its catalog takes a new session three times the work.
SELECT has_citus,
    CASE WHEN to_regproc('append_rows') IS NOT NULL AND array_position(types, NULL) IS NULL
        THEN types END AS row_types
FROM (SELECT to_regproc('citus_truncate_trigger') IS NOT NULL AS has_citus,
    ARRAY[to_regtype(log || '.append_flow[]'), to_regtype(log || '.append_event[]'),
        to_regtype(log || '.append_artifact[]'), to_regtype(log || '.append_retry[]'),
        to_regtype(log || '.append_step[]')]::oid[] AS types
    FROM (SELECT quote_ident(current_schema()) AS log) AS here) AS found

-- name: find_archived
-- Return which of some flows were archived, with the SHA-256 of the bundle that each was archived in
-- last.
-- $1 uuid[] flow_id
SELECT DISTINCT ON (gone.flow_id) gone.flow_id, gone.bundle_sha256
FROM archived_flows AS gone
WHERE gone.flow_id = ANY ($1::uuid[])
ORDER BY gone.flow_id, gone.archive_no DESC

-- name: probe_flow
-- Return where a flow ends, and the chain hash that it has after a number of events (null: it has
-- fewer); whether its last event is its seal; the SHA-256 of the bundle that it was archived in last,
-- or null; and whether the server is a standby, whose log may lack what it has not received yet.
-- $1 uuid flow_id, $2 integer number of events
SELECT pg_is_in_recovery() AS is_standby, ends.version,
    (SELECT last.chain_hash FROM event_log AS last
        WHERE last.flow_id = $1 AND last.version = ends.version - 1) AS chain_hash,
    (SELECT known.chain_hash FROM event_log AS known
        WHERE known.flow_id = $1 AND known.version = $2 - 1) AS known_hash,
    (SELECT count(*) FROM event_log AS last
        WHERE last.flow_id = $1 AND last.version = ends.version - 1
            AND last.event_type = 'stepsignal'
            AND last.payload ->> 'signal' = 'chem_persistence.sealed') > 0 AS is_sealed,
    (SELECT gone.bundle_sha256 FROM archived_flows AS gone
        WHERE gone.flow_id = $1
        ORDER BY gone.archive_no DESC LIMIT 1) AS bundle_sha256
FROM (SELECT coalesce(max(event.version) + 1, 0) AS version FROM event_log AS event
    WHERE event.flow_id = $1) AS ends

-- name: probe_lease
-- Return a row if a flow is held by a lease.
-- $1 uuid flow_id, $2 uuid lease
SELECT true AS is_held
FROM flow_runs AS run
WHERE run.flow_id = $1 AND run.lease = $2

-- name: read_event_page
-- Read one page of a flow's events, in order; JSON is returned as UTF-8 bytes, and a time outside
-- datetime's range as null. The planner cannot see the values in scalar subqueries, and expects few
-- rows between two bounds (no version is above 2147483647). So it keeps one generic plan; otherwise
-- it would plan each call anew.
-- The event before the page comes first, without its JSON, and has its link of the hash chain: it
-- shows that the page continues what was read. The first event of the page has its link too, and so
-- have the last ones of a full page.
-- A row with more bytes of JSON than one row may have comes without it, so that the page is bounded
-- in bytes; left_out is then its bytes of JSON, or 2^31 - 1 if the stored form alone shows that
-- there are too many. It is null for a row that comes whole. The row that is left out has its link.
-- $1 uuid flow_id, $2 integer version of the first event, $3 bigint maximum number of rows, with the
-- event before the page, $4 bigint maximum bytes of JSON of one row
SELECT seq, version, event_id, ts, event_type,
    CASE WHEN octet_length(payload) + octet_length(metadata) <= (SELECT $4::bigint)
        THEN payload END AS payload,
    CASE WHEN octet_length(payload) + octet_length(metadata) <= (SELECT $4::bigint)
        THEN metadata END AS metadata,
    nullif(greatest(coalesce(octet_length(payload) + octet_length(metadata), 2147483647),
        (SELECT $4::bigint)), (SELECT $4::bigint)) AS left_out,
    CASE WHEN version <= (SELECT $2::integer)
            OR version >= (SELECT $2::integer + $3::bigint - 2)
            OR (octet_length(payload) + octet_length(metadata) <= (SELECT $4::bigint)) IS NOT TRUE
        THEN chain_hash END AS chain_hash
FROM (
    SELECT seq, version, event_id, chain_hash,
        CASE WHEN ts BETWEEN '0001-01-01 00:00:00+00' AND '9999-12-31 23:59:59.999999+00'
            THEN ts END AS ts,
        event_type,
        CASE WHEN version < (SELECT $2::integer) THEN ''::bytea
            WHEN pg_column_size(payload) + pg_column_size(metadata) <= 16 * (SELECT $4::bigint)
            THEN convert_to(payload::text, 'UTF8') END AS payload,
        CASE WHEN version < (SELECT $2::integer) THEN ''::bytea
            WHEN pg_column_size(payload) + pg_column_size(metadata) <= 16 * (SELECT $4::bigint)
            THEN convert_to(metadata::text, 'UTF8') END AS metadata
    FROM event_log
    WHERE flow_id = $1 AND version >= (SELECT $2::integer - 1) AND version <= 2147483647
    ORDER BY version
    LIMIT (SELECT $3::bigint)
) AS page
ORDER BY version

-- name: read_events_by_given_id
-- Read the events of some flows that have one of some ids which the library does not make. A time
-- outside datetime's range is null.
-- $1 uuid[] flow_id, $2 uuid[] event_id
SELECT seq, flow_id, version, event_id,
    CASE WHEN ts BETWEEN '0001-01-01 00:00:00+00'
        AND '9999-12-31 23:59:59.999999+00' THEN ts END AS ts,
    event_type, payload, metadata, chain_hash
FROM event_log
WHERE flow_id = ANY ($1::uuid[]) AND event_id = ANY ($2::uuid[])
    AND NOT (get_byte(uuid_send(event_id), 15) = 0 AND get_byte(uuid_send(event_id), 14) & 3 = 0
        AND get_byte(uuid_send(event_id), 6) >> 4 = 7)
ORDER BY flow_id, version

-- name: read_events_by_own_id
-- Read the events of some flows that have one of some ids as the library makes them, which no index
-- has: every event of these flows is scanned. A time outside datetime's range is null.
-- $1 uuid[] flow_id, $2 uuid[] event_id
SELECT seq, flow_id, version, event_id,
    CASE WHEN ts BETWEEN '0001-01-01 00:00:00+00' AND '9999-12-31 23:59:59.999999+00'
        THEN ts END AS ts,
    event_type, payload, metadata, chain_hash
FROM event_log
WHERE flow_id = ANY ($1::uuid[]) AND event_id = ANY ($2::uuid[])
ORDER BY flow_id, version

-- name: read_events_of_flows
-- Read all events of some flows, flow by flow, each in order; JSON is returned as UTF-8 bytes, and
-- a time outside datetime's range as null.
-- $1 uuid[] flow_id
SELECT flow_id, seq, version, event_id,
    CASE WHEN ts BETWEEN '0001-01-01 00:00:00+00' AND '9999-12-31 23:59:59.999999+00'
        THEN ts END AS ts,
    event_type, convert_to(payload::text, 'UTF8') AS payload,
    convert_to(metadata::text, 'UTF8') AS metadata
FROM event_log
WHERE flow_id = ANY ($1::uuid[])
ORDER BY flow_id, version

-- name: read_fact_page
-- Read one page of the parts of a flow's events that a replay needs, in order, as read_event_page
-- does. has_time tells whether the time is in datetime's range. The time itself, which is expensive
-- to decode, is returned only for events whose time a state shows.
-- $1 uuid flow_id, $2 integer version of the first event, $3 bigint maximum number of rows, with the
-- event before the page, $4 bigint maximum bytes of JSON of one row
SELECT version, has_time, ts, event_type,
    CASE WHEN octet_length(payload) <= (SELECT $4::bigint) THEN payload END AS payload,
    nullif(greatest(coalesce(octet_length(payload), 2147483647),
        (SELECT $4::bigint)), (SELECT $4::bigint)) AS left_out,
    CASE WHEN version <= (SELECT $2::integer)
            OR version >= (SELECT $2::integer + $3::bigint - 2)
            OR (octet_length(payload) <= (SELECT $4::bigint)) IS NOT TRUE
        THEN chain_hash END AS chain_hash
FROM (
    SELECT version, chain_hash,
        ts BETWEEN '0001-01-01 00:00:00+00' AND '9999-12-31 23:59:59.999999+00' AS has_time,
        CASE WHEN event_type IN ('stepstarted', 'stepfinished')
            AND ts BETWEEN '0001-01-01 00:00:00+00' AND '9999-12-31 23:59:59.999999+00'
            THEN ts END AS ts,
        event_type,
        CASE WHEN version < (SELECT $2::integer) THEN ''::bytea
            WHEN pg_column_size(payload) <= 16 * (SELECT $4::bigint)
            THEN convert_to(payload::text, 'UTF8') END AS payload
    FROM event_log
    WHERE flow_id = $1 AND version >= (SELECT $2::integer - 1) AND version <= 2147483647
    ORDER BY version
    LIMIT (SELECT $3::bigint)
) AS page
ORDER BY version

-- name: read_flow_events
-- Read one page of a flow's events, in order; a time outside datetime's range is null. One generic
-- plan is kept, as in read_event_page.
-- $1 uuid flow_id, $2 integer version after which the page begins, $3 bigint maximum number of rows
SELECT seq, flow_id, version, event_id,
    CASE WHEN ts BETWEEN '0001-01-01 00:00:00+00' AND '9999-12-31 23:59:59.999999+00'
        THEN ts END AS ts,
    event_type, payload, metadata, chain_hash
FROM event_log
WHERE flow_id = $1 AND version > (SELECT $2::integer) AND version <= 2147483647
ORDER BY version
LIMIT (SELECT $3::bigint)

-- name: read_flow_head
-- Read the head of a flow, now or after a number of events; the last event before that number if
-- the flow has fewer, and no row if it has none.
-- $1 uuid flow_id, $2 integer number of events, or null for the present head
SELECT event.flow_id, event.version + 1 AS version, event.chain_hash
FROM event_log AS event
WHERE event.flow_id = $1 AND event.version < coalesce($2, 2147483647)
ORDER BY event.version DESC
LIMIT 1

-- name: read_flow_heads
-- Read the heads of several flows, as read_flow_head does of one. Each flow is looked up in the key
-- from its first event; a damaged flow, which lacks that, is scanned. Citus permits no subquery
-- that refers to an array's element.
-- $1 uuid[] flow_id, $2 integer[] number of events, or null for the present head
WITH heads AS MATERIALIZED (
    SELECT first.flow_id, last.version + 1 AS version, last.chain_hash
    FROM event_log AS first
    CROSS JOIN LATERAL (
        SELECT event.version, event.chain_hash
        FROM event_log AS event
        WHERE event.flow_id = first.flow_id
            AND event.version < coalesce(($2::integer[])[array_position($1::uuid[], first.flow_id)],
                2147483647)
        ORDER BY event.version DESC
        LIMIT 1
    ) AS last
    WHERE first.flow_id = ANY ($1::uuid[]) AND first.version = 0
)
SELECT flow_id, version, chain_hash
FROM heads
UNION ALL
SELECT damaged.flow_id, damaged.version, damaged.chain_hash
FROM (
    SELECT DISTINCT ON (event.flow_id) event.flow_id, event.version + 1 AS version, event.chain_hash
    FROM event_log AS event
    WHERE event.flow_id = ANY (ARRAY(SELECT unnest($1::uuid[]) EXCEPT SELECT heads.flow_id
        FROM heads))
        AND event.version < coalesce(($2::integer[])[array_position($1::uuid[], event.flow_id)],
            2147483647)
    ORDER BY event.flow_id, event.version DESC
) AS damaged

-- name: read_stored_event_page
-- Read one page of a flow's events as read_event_page does, each with its link of the hash chain.
-- $1 uuid flow_id, $2 integer version of the first event, $3 bigint maximum number of rows, with the
-- event before the page, $4 bigint maximum bytes of JSON of one row
SELECT seq, version, event_id, ts, event_type, chain_hash,
    CASE WHEN octet_length(payload) + octet_length(metadata) <= (SELECT $4::bigint)
        THEN payload END AS payload,
    CASE WHEN octet_length(payload) + octet_length(metadata) <= (SELECT $4::bigint)
        THEN metadata END AS metadata,
    nullif(greatest(coalesce(octet_length(payload) + octet_length(metadata), 2147483647),
        (SELECT $4::bigint)), (SELECT $4::bigint)) AS left_out
FROM (
    SELECT seq, version, event_id, chain_hash,
        CASE WHEN ts BETWEEN '0001-01-01 00:00:00+00' AND '9999-12-31 23:59:59.999999+00'
            THEN ts END AS ts,
        event_type,
        CASE WHEN version < (SELECT $2::integer) THEN ''::bytea
            WHEN pg_column_size(payload) + pg_column_size(metadata) <= 16 * (SELECT $4::bigint)
            THEN convert_to(payload::text, 'UTF8') END AS payload,
        CASE WHEN version < (SELECT $2::integer) THEN ''::bytea
            WHEN pg_column_size(payload) + pg_column_size(metadata) <= 16 * (SELECT $4::bigint)
            THEN convert_to(metadata::text, 'UTF8') END AS metadata
    FROM event_log
    WHERE flow_id = $1 AND version >= (SELECT $2::integer - 1) AND version <= 2147483647
    ORDER BY version
    LIMIT (SELECT $3::bigint)
) AS page
ORDER BY version
