-- The log: appends, pages of flows and of the feed.

-- name: append_events
-- Append events to the ends of one or more flows, with their artifacts and step rows: the function of migration 0005,
-- where the documents are described. Gives (flow_id, version, seq), to be matched by key; none for a flow that is not where its
-- writer believes.
-- $1 text events
-- $2 text artifacts, $3 text[] their payloads, $4 bytea[] their contents; all null when there are none
-- $5 text retries, or null
-- $6 text changes of step rows, or null
-- $7 text how long to wait for another writer's lock at most, or null
SELECT stored_flow_id AS flow_id, stored_version AS version, stored_seq AS seq
FROM append_events($1, $2, $3, $4, $5, $6, $7)

-- name: find_distribution
-- Say whether the log is distributed over several servers: Citus gives such a table a trigger of this name.
SELECT EXISTS (SELECT 1
    FROM pg_trigger AS trigger
    JOIN pg_proc AS routine ON routine.oid = trigger.tgfoid
    WHERE trigger.tgrelid = to_regclass('event_log') AND routine.proname = 'citus_truncate_trigger') AS distributed

-- name: find_feed_end
-- Find the seq up to which the log is complete, for good.
SELECT feed_end() AS seq

-- name: read_event_page
-- Read one page of a flow's events, in order, JSON as UTF-8 bytes; a time that no datetime can hold is null.
-- The scalar subqueries hide the parameters from the planner, and between two bounds it expects few rows (no version is
-- above 2147483647), so that it keeps one plan; it would make one at each call where that one looks cheaper than any.
-- $1 uuid flow_id, $2 integer version after which the page begins, $3 bigint rows at most
SELECT seq, version, event_id,
    CASE WHEN ts BETWEEN '0001-01-01 00:00:00+00' AND '9999-12-31 23:59:59.999999+00' THEN ts END AS ts,
    event_type, convert_to(payload::text, 'UTF8') AS payload, convert_to(metadata::text, 'UTF8') AS metadata
FROM event_log
WHERE flow_id = $1 AND version > (SELECT $2::integer) AND version <= 2147483647
ORDER BY version
LIMIT (SELECT $3::bigint)

-- name: read_events_by_id
-- Read those of some flows' events that have one of the ids, looking at every event of these flows; a time that no
-- datetime can hold is null.
-- $1 uuid[] flow_id, $2 uuid[] event_id
SELECT seq, flow_id, version, event_id,
    CASE WHEN ts BETWEEN '0001-01-01 00:00:00+00' AND '9999-12-31 23:59:59.999999+00' THEN ts END AS ts,
    event_type, payload, metadata, chain_hash
FROM event_log
WHERE flow_id = ANY ($1::uuid[]) AND event_id = ANY ($2::uuid[])
ORDER BY flow_id, version

-- name: read_events_of_flows
-- Read all events of some flows, flow by flow, each in order, JSON as UTF-8 bytes; a time that no datetime can hold is
-- null.
-- $1 uuid[] flow_id
SELECT flow_id, seq, version, event_id,
    CASE WHEN ts BETWEEN '0001-01-01 00:00:00+00' AND '9999-12-31 23:59:59.999999+00' THEN ts END AS ts,
    event_type, convert_to(payload::text, 'UTF8') AS payload, convert_to(metadata::text, 'UTF8') AS metadata
FROM event_log
WHERE flow_id = ANY ($1::uuid[])
ORDER BY flow_id, version

-- name: read_fact_page
-- Read one page of what a replay needs of a flow's events, in order, JSON as UTF-8 bytes; has_time says whether a datetime
-- can hold the time. The time itself, which costs a client more than the rest of a row, comes of those events alone whose
-- time a state shows.
-- The scalar subqueries hide the parameters from the planner, and between two bounds it expects few rows (no version is
-- above 2147483647), so that it keeps one plan; it would make one at each call where that one looks cheaper than any.
-- $1 uuid flow_id, $2 integer version after which the page begins, $3 bigint rows at most
SELECT version,
    ts BETWEEN '0001-01-01 00:00:00+00' AND '9999-12-31 23:59:59.999999+00' AS has_time,
    CASE WHEN event_type IN ('stepstarted', 'stepfinished')
        AND ts BETWEEN '0001-01-01 00:00:00+00' AND '9999-12-31 23:59:59.999999+00' THEN ts END AS ts,
    event_type, convert_to(payload::text, 'UTF8') AS payload
FROM event_log
WHERE flow_id = $1 AND version > (SELECT $2::integer) AND version <= 2147483647
ORDER BY version
LIMIT (SELECT $3::bigint)

-- name: read_feed_page
-- Read one page of the whole log's events, in the order of seq, JSON as UTF-8 bytes; a time that no datetime can hold is null.
-- $1 bigint seq after which the page begins, $2 bigint seq with which it ends at the latest, $3 bigint rows at most
SELECT seq, flow_id, version, event_id,
    CASE WHEN ts BETWEEN '0001-01-01 00:00:00+00' AND '9999-12-31 23:59:59.999999+00' THEN ts END AS ts,
    event_type, convert_to(payload::text, 'UTF8') AS payload, convert_to(metadata::text, 'UTF8') AS metadata, chain_hash
FROM event_log
WHERE seq > $1 AND seq <= $2
ORDER BY seq
LIMIT $3

-- name: read_flow_events
-- Read one page of a flow's events, in order; a time that no datetime can hold is null. It keeps one plan as
-- read_event_page does.
-- $1 uuid flow_id, $2 integer version after which the page begins, $3 bigint rows at most
SELECT seq, flow_id, version, event_id,
    CASE WHEN ts BETWEEN '0001-01-01 00:00:00+00' AND '9999-12-31 23:59:59.999999+00' THEN ts END AS ts,
    event_type, payload, metadata, chain_hash
FROM event_log
WHERE flow_id = $1 AND version > (SELECT $2::integer) AND version <= 2147483647
ORDER BY version
LIMIT (SELECT $3::bigint)

-- name: read_flow_heads
-- Read where flows end, or where they ended when they had so many events; chain_hash is null where a flow does not
-- reach there. The scalar subqueries make the plan look each up in the key.
-- $1 uuid[] flow_id, $2 integer[] how many events, or null for the end as it is
SELECT ends.flow_id, ends.version, (SELECT last.chain_hash FROM event_log AS last
    WHERE last.flow_id = ends.flow_id AND last.version = ends.version - 1) AS chain_hash
FROM (
    SELECT asked.flow_id, coalesce(asked.version, (SELECT max(event.version) + 1 FROM event_log AS event
        WHERE event.flow_id = asked.flow_id), 0) AS version
    FROM unnest($1::uuid[], $2::integer[]) AS asked (flow_id, version)
) AS ends
