-- Claim the parts of durable consumers, read what they are to consume, and move their positions.

-- name: begin_resize
-- Have a consumer's parts stop at the position of the foremost one, and take them from their
-- holders; the rows must be locked.
-- $1 text name, $2 integer number of parts wanted
UPDATE feed_consumers AS own
SET until_seq = foremost.seq, next_parts = $2, lease = NULL, holder = NULL, due_at = '-infinity'
FROM (SELECT max(every.seq) AS seq FROM feed_consumers AS every WHERE every.name = $1) AS foremost
WHERE own.name = $1

-- name: claim_part
-- Claim the part of a consumer that is due longest and has something to do: events before the end
-- of the feed, a flow that was released, or a change of the number of parts that waits for it. From
-- the second try on, its next transaction has one event.
-- $1 text name, $2 uuid token, $3 text holder, $4 interval duration, $5 bigint end of the feed
UPDATE feed_consumers AS own
SET lease = $2, holder = $3, due_at = now() + $4::interval, tries = own.tries + 1,
    page = CASE WHEN own.tries > 0 THEN 1 ELSE own.page END
WHERE (own.name, own.part) = (
    SELECT due.name, due.part
    FROM feed_consumers AS due
    WHERE due.name = $1 AND due.due_at <= now()
        AND (greatest(due.seq, due.passed_seq) < least($5::bigint, due.until_seq)
            OR due.seq = due.until_seq
            OR EXISTS (SELECT 1 FROM feed_parked AS parked
                WHERE parked.name = due.name AND parked.is_released
                    AND get_byte(sha256(uuid_send(parked.flow_id)), 0) % due.parts = due.part))
    ORDER BY due.due_at, due.part
    LIMIT 1
    FOR UPDATE SKIP LOCKED)
RETURNING own.part, own.parts, own.seq, own.flow_id, own.link, own.until_seq, own.tries, own.page,
    own.error

-- name: count_behind
-- Count the parts of a consumer that have not passed a seq, and its flows that are released and not
-- consumed yet.
-- $1 text name, $2 bigint seq
SELECT (SELECT count(*) FROM feed_consumers AS own
        WHERE own.name = $1 AND greatest(own.seq, own.passed_seq) < $2::bigint)
    + (SELECT count(*) FROM feed_parked AS parked
        WHERE parked.name = $1 AND parked.is_released) AS behind

-- name: create_consumer
-- Create a consumer with all its parts at one position, unless it exists.
-- $1 text name, $2 integer number of parts, $3 bigint seq of the position, $4 uuid flow_id of its
-- event, or null, $5 bytea its chain hash, or null
WITH first AS (
    INSERT INTO feed_consumers (name, part, parts, seq, flow_id, link)
    VALUES ($1, 0, $2, $3, $4, $5)
    ON CONFLICT DO NOTHING
    RETURNING name
)
INSERT INTO feed_consumers (name, part, parts, seq, flow_id, link)
SELECT first.name, other.part, $2, $3, $4, $5
FROM first
CROSS JOIN generate_series(1, $2 - 1) AS other (part)

-- name: delete_parked_after
-- Forget the parked flows whose first event that was not consumed is after a position.
-- $1 text name, $2 bigint seq
DELETE FROM feed_parked AS parked
WHERE parked.name = $1 AND parked.seq > $2

-- name: delete_parts
-- Delete the parts of a consumer.
-- $1 text name
DELETE FROM feed_consumers AS own
WHERE own.name = $1
RETURNING own.part

-- name: find_position
-- Return the chain hash of the event of a position; nothing if the log does not hold it. An event
-- that was archived was consumed before.
-- $1 uuid flow_id, $2 bigint seq, $3 bytea chain hash that the position has
(SELECT event.chain_hash AS link FROM event_log AS event WHERE event.flow_id = $1 AND event.seq = $2)
UNION ALL
(SELECT $3::bytea FROM archived_flows AS gone
    WHERE gone.flow_id = $1 AND $2 BETWEEN gone.first_seq AND gone.last_seq
    LIMIT 1)

-- name: find_released
-- Return the flow of a part that was released first, and the seq from which it waits.
-- $1 text name, $2 integer number of parts, $3 integer part
SELECT parked.flow_id, parked.seq
FROM feed_parked AS parked
WHERE parked.name = $1 AND parked.is_released
    AND get_byte(sha256(uuid_send(parked.flow_id)), 0) % $2::integer = $3::integer
ORDER BY parked.parked_at, parked.flow_id
LIMIT 1

-- name: find_span
-- Return the last one of the next events of the log, of all flows and types, as a position.
-- $1 bigint seq after which they begin, $2 bigint largest seq, $3 bigint number of events
SELECT span.seq, span.flow_id, span.chain_hash AS link
FROM (
    SELECT event.seq, event.flow_id, event.chain_hash
    FROM event_log AS event
    WHERE event.seq > $1 AND event.seq <= $2
    ORDER BY event.seq
    LIMIT $3
) AS span
ORDER BY span.seq DESC
LIMIT 1

-- name: finish_parked
-- Forget a released flow of which everything is consumed, if it still waits from the same event.
-- $1 text name, $2 uuid flow_id, $3 bigint seq
DELETE FROM feed_parked AS parked
WHERE parked.name = $1 AND parked.flow_id = $2 AND parked.seq = $3 AND parked.is_released
RETURNING parked.flow_id

-- name: list_consumers
-- List the parts of consumers, with the number of flows that are parked in each.
-- $1 text name, or null for all
SELECT own.name, own.part, own.parts, own.seq, greatest(own.seq, own.passed_seq) AS passed_seq,
    own.next_parts, CASE WHEN own.due_at > now() THEN own.holder END AS holder, own.tries,
    own.error, own.moved_at,
    (SELECT count(*) FROM feed_parked AS parked
        WHERE parked.name = own.name
            AND get_byte(sha256(uuid_send(parked.flow_id)), 0) % own.parts = own.part) AS parked
FROM feed_consumers AS own
WHERE own.name = coalesce($1::text, own.name)
ORDER BY own.name, own.part

-- name: list_parked
-- List the parked flows of consumers, the oldest first.
-- $1 text name, or null for all
SELECT parked.name, parked.flow_id, parked.seq, parked.event_id, parked.error,
    parked.parked_at, parked.is_released
FROM feed_parked AS parked
WHERE parked.name = coalesce($1::text, parked.name)
ORDER BY parked.name, parked.parked_at, parked.flow_id

-- name: list_parked_in_part
-- List the flows of a part that are left out of its pages: those that are parked, released or not,
-- and those that the consumer had consumed when they were archived, and that were imported again.
-- $1 text name, $2 integer number of parts, $3 integer part
SELECT parked.flow_id
FROM feed_parked AS parked
WHERE parked.name = $1
    AND get_byte(sha256(uuid_send(parked.flow_id)), 0) % $2::integer = $3::integer
UNION
SELECT gone.flow_id
FROM imported_flows AS imported
JOIN archived_flows AS gone ON gone.flow_id = imported.flow_id
WHERE $1 = ANY (gone.consumers)
    AND get_byte(sha256(uuid_send(gone.flow_id)), 0) % $2::integer = $3::integer

-- name: lock_parts
-- Lock the parts of a consumer, and return their positions.
-- $1 text name
SELECT own.part, own.parts, own.seq, own.flow_id, own.link, own.until_seq, own.next_parts
FROM feed_consumers AS own
WHERE own.name = $1
ORDER BY own.part
FOR UPDATE

-- name: move_parked
-- Have a released flow wait from a later event, if it still waits from the same one.
-- $1 text name, $2 uuid flow_id, $3 bigint seq, $4 bigint seq after the last one consumed
UPDATE feed_parked AS parked
SET seq = $4
WHERE parked.name = $1 AND parked.flow_id = $2 AND parked.seq = $3 AND parked.is_released
RETURNING parked.flow_id

-- name: move_part
-- Move the position of a part that is held by a token and has not moved; return nothing if it is
-- not held or has moved.
-- $1 text name, $2 integer part, $3 bigint seq it is at, $4 uuid token, $5 bigint new seq,
-- $6 uuid flow_id of its event, $7 bytea its chain hash, $8 integer events in the next transaction,
-- $9 interval duration of the lease
UPDATE feed_consumers AS own
SET seq = $5, flow_id = $6, link = $7, tries = 1, page = $8, error = NULL, moved_at = now(),
    due_at = now() + $9::interval
WHERE own.name = $1 AND own.part = $2 AND own.seq = $3 AND own.lease = $4
RETURNING own.part

-- name: park_again
-- Park a released flow again, from the event at which it failed.
-- $1 text name, $2 uuid flow_id, $3 bigint seq, $4 bigint seq of the event, $5 uuid its event_id,
-- $6 text error
UPDATE feed_parked AS parked
SET seq = $4, event_id = $5, error = $6, is_released = false, parked_at = now()
WHERE parked.name = $1 AND parked.flow_id = $2 AND parked.seq = $3 AND parked.is_released
RETURNING parked.flow_id

-- name: park_flow
-- Park a flow from one of its events on.
-- $1 text name, $2 uuid flow_id, $3 bigint seq, $4 uuid event_id, $5 text error
INSERT INTO feed_parked (name, flow_id, seq, event_id, error)
VALUES ($1, $2, $3, $4, $5)

-- name: read_held_part
-- Return a part that is held by a token.
-- $1 text name, $2 uuid token
SELECT own.part, own.parts, own.seq, own.flow_id, own.link, own.until_seq, own.tries, own.page,
    own.error
FROM feed_consumers AS own
WHERE own.name = $1 AND own.lease = $2

-- name: read_part_page
-- Read the next events of a part, in the order of seq, without those of parked flows; JSON is
-- returned as UTF-8 bytes, and a time outside datetime's range as null.
-- A row with more bytes of JSON than one row may have comes without it, so that the page is bounded
-- in bytes; left_out is then its bytes of JSON, or 2^31 - 1 if the stored form alone shows that
-- there are too many. It is null for a row that comes whole.
-- $1 bigint seq after which they begin, $2 bigint largest seq, $3 integer number of parts,
-- $4 integer part, $5 uuid[] parked flows, $6 text[] event_type, or null for all, $7 bigint maximum
-- number of rows, $8 bigint maximum bytes of JSON of one row
SELECT seq, flow_id, version, event_id, ts, event_type,
    CASE WHEN octet_length(payload) + octet_length(metadata) <= $8::bigint
        THEN payload END AS payload,
    CASE WHEN octet_length(payload) + octet_length(metadata) <= $8::bigint
        THEN metadata END AS metadata,
    chain_hash,
    nullif(greatest(coalesce(octet_length(payload) + octet_length(metadata), 2147483647),
        $8::bigint), $8::bigint) AS left_out
FROM (
    SELECT seq, flow_id, version, event_id,
        CASE WHEN ts BETWEEN '0001-01-01 00:00:00+00' AND '9999-12-31 23:59:59.999999+00'
            THEN ts END AS ts,
        event_type,
        CASE WHEN pg_column_size(payload) + pg_column_size(metadata) <= 16 * $8::bigint
            THEN convert_to(payload::text, 'UTF8') END AS payload,
        CASE WHEN pg_column_size(payload) + pg_column_size(metadata) <= 16 * $8::bigint
            THEN convert_to(metadata::text, 'UTF8') END AS metadata,
        chain_hash
    FROM event_log
    WHERE seq > $1 AND seq <= $2
        AND get_byte(sha256(uuid_send(flow_id)), 0) % $3::integer = $4::integer
        AND flow_id <> ALL ($5::uuid[])
        AND ($6::text[] IS NULL OR event_type = ANY ($6::text[]))
    ORDER BY seq
    LIMIT $7
) AS page
ORDER BY seq

-- name: read_released_page
-- Read the next events of a flow that was released, in order; the columns are those of
-- read_part_page.
-- $1 uuid flow_id, $2 bigint seq of the first one, $3 bigint largest seq, $4 text[] event_type, or
-- null for all, $5 bigint maximum number of rows, $6 bigint maximum bytes of JSON of one row
SELECT seq, flow_id, version, event_id, ts, event_type,
    CASE WHEN octet_length(payload) + octet_length(metadata) <= $6::bigint
        THEN payload END AS payload,
    CASE WHEN octet_length(payload) + octet_length(metadata) <= $6::bigint
        THEN metadata END AS metadata,
    chain_hash,
    nullif(greatest(coalesce(octet_length(payload) + octet_length(metadata), 2147483647),
        $6::bigint), $6::bigint) AS left_out
FROM (
    SELECT seq, flow_id, version, event_id,
        CASE WHEN ts BETWEEN '0001-01-01 00:00:00+00' AND '9999-12-31 23:59:59.999999+00'
            THEN ts END AS ts,
        event_type,
        CASE WHEN pg_column_size(payload) + pg_column_size(metadata) <= 16 * $6::bigint
            THEN convert_to(payload::text, 'UTF8') END AS payload,
        CASE WHEN pg_column_size(payload) + pg_column_size(metadata) <= 16 * $6::bigint
            THEN convert_to(metadata::text, 'UTF8') END AS metadata,
        chain_hash
    FROM event_log
    WHERE flow_id = $1 AND seq >= $2 AND seq <= $3
        AND ($4::text[] IS NULL OR event_type = ANY ($4::text[]))
    ORDER BY seq
    LIMIT $5
) AS page
ORDER BY seq

-- name: release_parked
-- Release a parked flow; return nothing if it is not parked.
-- $1 text name, $2 uuid flow_id
UPDATE feed_parked AS parked
SET is_released = true
WHERE parked.name = $1 AND parked.flow_id = $2
RETURNING parked.flow_id

-- name: release_part
-- Release a part that is held by a token and has not moved; return nothing if it is not held or has
-- moved.
-- $1 text name, $2 integer part, $3 bigint seq it is at, $4 uuid token, $5 interval after which it
-- is due, $6 integer tries, $7 bigint end of the feed up to which nothing of it follows, or null,
-- $8 text error, or null to keep the last one
UPDATE feed_consumers AS own
SET lease = NULL, holder = NULL, due_at = now() + $5::interval, tries = $6,
    passed_seq = coalesce($7, own.passed_seq), error = coalesce($8, own.error)
WHERE own.name = $1 AND own.part = $2 AND own.seq = $3 AND own.lease = $4
RETURNING own.part

-- name: renew_part
-- Renew the lease of a part; return nothing if it is not held by the token any more.
-- $1 text name, $2 integer part, $3 uuid token, $4 interval duration
UPDATE feed_consumers AS own
SET due_at = now() + $4::interval
WHERE own.name = $1 AND own.part = $2 AND own.lease = $3
RETURNING own.part

-- name: set_positions
-- Set the position of all parts of a consumer, and take them from their holders: what these have
-- under way can then not be committed.
-- $1 text name, $2 bigint seq, $3 uuid flow_id of its event, or null, $4 bytea its chain hash, or
-- null
UPDATE feed_consumers AS own
SET seq = $2, flow_id = $3, link = $4, passed_seq = 0, until_seq = NULL, next_parts = NULL,
    lease = NULL, holder = NULL, due_at = '-infinity', tries = 0, page = 1, error = NULL,
    moved_at = now()
WHERE own.name = $1
RETURNING own.part

-- name: set_timeout
-- End this transaction if its client leaves it idle for so long.
-- $1 text milliseconds
SELECT set_config('idle_in_transaction_session_timeout', $1, true)
