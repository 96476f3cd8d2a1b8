-- Read the feed, the events of all flows in the order of seq, and check positions in it.

-- name: count_missed
-- Return the last number in the register, or that which is known if no later one is there, and how
-- many of the later flows have events after a seq.
-- $1 bigint number of the archive that is known, $2 bigint seq
SELECT coalesce(max(gone.archive_no), $1::bigint) AS archive_no,
    count(*) FILTER (WHERE gone.last_seq > $2::bigint) AS missed
FROM archived_flows AS gone
WHERE gone.archive_no > $1::bigint

-- name: examine_position
-- Return what the log has at a position: its event's chain hash, whether an event of any flow has
-- its seq, and the numbers and chain hashes of the events in its window, with one more than a
-- window can have.
-- $1 uuid flow_id, $2 bigint seq, $3 bigint seq after which the window begins
SELECT
    (SELECT chain_hash FROM event_log WHERE flow_id = $1 AND seq = $2) AS link,
    EXISTS (SELECT 1 FROM event_log WHERE seq = $2) AS is_taken,
    (SELECT array_agg(last.seq ORDER BY last.seq) FROM (
        SELECT seq FROM event_log WHERE seq > $3 AND seq <= $2 ORDER BY seq
            LIMIT 257) AS last) AS seqs,
    (SELECT array_agg(last.chain_hash ORDER BY last.seq) FROM (
        SELECT seq, chain_hash FROM event_log WHERE seq > $3 AND seq <= $2 ORDER BY seq
            LIMIT 257) AS last) AS links

-- name: find_archive_at
-- Return whether the event of a position was archived with its flow, and whether a flow was archived
-- that may have had events in the window.
-- $1 uuid flow_id, $2 bigint seq, $3 bigint seq after which the window begins
SELECT
    EXISTS (SELECT 1 FROM archived_flows AS gone
        WHERE gone.flow_id = $1 AND gone.first_seq <= $2 AND gone.last_seq >= $2) AS is_archived,
    EXISTS (SELECT 1 FROM archived_flows AS gone
        WHERE gone.first_seq <= $2 AND gone.last_seq > $3) AS is_touched

-- name: find_archive_number
-- Return a number that no archive which is committed exceeds: the last that was given out, or, to a
-- role that may not read it, the largest one.
SELECT CASE WHEN has_sequence_privilege('archived_flows_archive_no_seq', 'SELECT')
    THEN coalesce(pg_sequence_last_value('archived_flows_archive_no_seq'::regclass), 0)
    ELSE 9223372036854775807 END AS archive_no

-- name: find_feed_bounds
-- Return the seq up to which the log is complete and stays so, the last one that was given out, and
-- whether the log is distributed, which has a function that another has not.
-- The sequence of a distributed log may be behind after a crash, which feed_end() knows.
SELECT bounds.seq,
    greatest(bounds.seq, pg_sequence_last_value('event_log_seq_seq'::regclass)) AS last_seq,
    to_regproc('check_seq') IS NOT NULL AS is_distributed
FROM (SELECT feed_end() AS seq) AS bounds

-- name: find_feed_end
-- Return the seq up to which the log is complete and stays so, and whether the log is distributed.
-- feed_end() fails on a standby, whose log may lack what it has not received yet. It stands in no
-- statement that reads a table: Citus sends such a statement as a whole to a worker, where it would be
-- called.
SELECT feed_end() AS seq, to_regproc('check_seq') IS NOT NULL AS is_distributed

-- name: find_last_archive
-- Return the last number in the register, or 0.
SELECT coalesce(max(archive_no), 0) AS archive_no FROM archived_flows

-- name: find_position
-- Return the chain hash of a position's event, or nothing if that event is not there.
-- $1 uuid flow_id, $2 bigint seq
SELECT chain_hash AS link FROM event_log WHERE flow_id = $1 AND seq = $2

-- name: list_missed
-- List flows that were archived and have events after a seq, in the order in which they were.
-- $1 bigint number of the archive that is known, $2 bigint seq, $3 bigint number of the last archive
-- that is listed, $4 bigint maximum number of rows
SELECT gone.flow_id
FROM archived_flows AS gone
WHERE gone.archive_no > $1 AND gone.last_seq > $2 AND gone.archive_no <= $3
ORDER BY gone.archive_no
LIMIT $4

-- name: read_distributed_feed_page
-- Read one page as read_feed_page does, of a distributed log: Citus takes only a limit that is a
-- constant when it plans, and plans each call anew.
-- $1 bigint seq after which the page begins, $2 bigint largest seq, $3 bigint seq of the
-- position's event, $4 bigint maximum number of rows, $5 bigint maximum bytes of JSON of one row
SELECT seq, flow_id, version, event_id, ts, event_type,
    CASE WHEN octet_length(payload) + octet_length(metadata) <= $5::bigint
        THEN payload END AS payload,
    CASE WHEN octet_length(payload) + octet_length(metadata) <= $5::bigint
        THEN metadata END AS metadata,
    chain_hash,
    nullif(greatest(coalesce(octet_length(payload) + octet_length(metadata), 2147483647),
        $5::bigint), $5::bigint) AS left_out
FROM (
    SELECT seq, flow_id, version, event_id,
        CASE WHEN ts BETWEEN '0001-01-01 00:00:00+00' AND '9999-12-31 23:59:59.999999+00'
            THEN ts END AS ts,
        event_type,
        CASE WHEN seq = $3::bigint THEN ''::bytea
            WHEN pg_column_size(payload) + pg_column_size(metadata) <= 16 * $5::bigint
            THEN convert_to(payload::text, 'UTF8') END AS payload,
        CASE WHEN seq = $3::bigint THEN ''::bytea
            WHEN pg_column_size(payload) + pg_column_size(metadata) <= 16 * $5::bigint
            THEN convert_to(metadata::text, 'UTF8') END AS metadata,
        chain_hash
    FROM event_log
    WHERE seq > $1 AND seq <= $2
    ORDER BY seq
    LIMIT $4
) AS page
ORDER BY seq

-- name: read_feed_page
-- Read one page of the whole log's events, in the order of seq; JSON is returned as UTF-8 bytes,
-- and a time outside datetime's range as null. The event of the position that the page follows
-- comes without its JSON.
-- A row with more bytes of JSON than one row may have comes without it, so that the page is bounded
-- in bytes; left_out is then its bytes of JSON, or 2^31 - 1 if the stored form alone shows that
-- there are too many. It is null for a row that comes whole.
-- The planner does not see the limit: it would take a plan for a known one to be cheaper than a kept
-- plan, and plan each call anew, which is a third of the page's cost.
-- $1 bigint seq after which the page begins, $2 bigint largest seq, $3 bigint seq of the
-- position's event, $4 bigint maximum number of rows, $5 bigint maximum bytes of JSON of one row
SELECT seq, flow_id, version, event_id, ts, event_type,
    CASE WHEN octet_length(payload) + octet_length(metadata) <= $5::bigint
        THEN payload END AS payload,
    CASE WHEN octet_length(payload) + octet_length(metadata) <= $5::bigint
        THEN metadata END AS metadata,
    chain_hash,
    nullif(greatest(coalesce(octet_length(payload) + octet_length(metadata), 2147483647),
        $5::bigint), $5::bigint) AS left_out
FROM (
    SELECT seq, flow_id, version, event_id,
        CASE WHEN ts BETWEEN '0001-01-01 00:00:00+00' AND '9999-12-31 23:59:59.999999+00'
            THEN ts END AS ts,
        event_type,
        CASE WHEN seq = $3::bigint THEN ''::bytea
            WHEN pg_column_size(payload) + pg_column_size(metadata) <= 16 * $5::bigint
            THEN convert_to(payload::text, 'UTF8') END AS payload,
        CASE WHEN seq = $3::bigint THEN ''::bytea
            WHEN pg_column_size(payload) + pg_column_size(metadata) <= 16 * $5::bigint
            THEN convert_to(metadata::text, 'UTF8') END AS metadata,
        chain_hash
    FROM event_log
    WHERE seq > $1 AND seq <= $2
    ORDER BY seq
    LIMIT (SELECT $4::bigint)
) AS page
ORDER BY seq

-- name: read_last_links
-- Read the chain hashes of the last events up to a seq, the newest first: those of a window.
-- $1 bigint largest seq
SELECT seq, flow_id, chain_hash
FROM event_log
WHERE seq <= $1
ORDER BY seq DESC
LIMIT 256
