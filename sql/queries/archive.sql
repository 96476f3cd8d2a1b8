-- Archive sealed flows, and store archived ones again.

-- name: archive_flows
-- Archive sealed flows, all or none; return the number of each in the register.
-- $1 uuid[] flow_id, $2 integer[] number of events of each, $3 bytea[] chain_hash of the last one of
-- each, which is its seal, $4 text SHA-256 of the bundle that has them, $5 text actor
SELECT archived_flow_id AS flow_id, archived_no AS archive_no
FROM archive_flows($1::uuid[], $2::integer[], $3::bytea[], $4, $5)

-- name: begin_import
-- Let this transaction store flows under ids that were archived, and none be archived until it ends.
SELECT set_config('chem_persistence.import', 'on', true) AS setting,
    pg_advisory_xact_lock_shared('archived_flows'::regclass::oid::integer, 0) AS locked

-- name: find_archived
-- Return the rows of the register that name some flows, in the order of their numbers; a time outside
-- datetime's range is null.
-- $1 uuid[] flow_id
SELECT gone.archive_no, gone.flow_id, gone.version, gone.chain_hash, gone.first_seq, gone.last_seq,
    gone.bundle_sha256, gone.consumers,
    CASE WHEN gone.archived_at BETWEEN '0001-01-01 00:00:00+00' AND '9999-12-31 23:59:59.999999+00'
        THEN gone.archived_at END AS archived_at,
    gone.actor, gone.by_role::text AS by_role
FROM archived_flows AS gone
WHERE gone.flow_id = ANY ($1::uuid[])
ORDER BY gone.archive_no

-- name: find_archived_ids
-- Return archived flows whose ids are in a range, each with the bundle that it was archived in last.
-- $1 uuid first, $2 uuid last, $3 bigint maximum number of rows
SELECT DISTINCT ON (gone.flow_id) gone.flow_id, gone.bundle_sha256
FROM archived_flows AS gone
WHERE gone.flow_id BETWEEN $1 AND $2
ORDER BY gone.flow_id, gone.archive_no DESC
LIMIT $3

-- name: find_archivist
-- Return whether the current role may archive flows.
SELECT has_function_privilege(
    'archive_flows(uuid[], integer[], bytea[], text, text)', 'EXECUTE') AS is_archivist

-- name: find_differing
-- Return which of some flows were archived with another end than they have now.
-- $1 uuid[] flow_id
SELECT last.flow_id, last.version
FROM event_log AS last
WHERE last.flow_id = ANY ($1::uuid[])
    AND (SELECT count(*) FROM event_log AS later
        WHERE later.flow_id = last.flow_id AND later.version = last.version + 1) = 0
    AND (SELECT count(*) FROM archived_flows AS gone WHERE gone.flow_id = last.flow_id) > 0
    AND (SELECT count(*) FROM archived_flows AS gone
        WHERE gone.flow_id = last.flow_id AND gone.version = last.version + 1
            AND gone.chain_hash = last.chain_hash) = 0

-- name: list_archived
-- List archived flows, each once, the one that was archived last first; a time outside datetime's
-- range is null.
-- $1 bigint number in the register before which the page begins, $2 bigint maximum number of rows
SELECT gone.archive_no, gone.flow_id, gone.bundle_sha256,
    CASE WHEN gone.archived_at BETWEEN '0001-01-01 00:00:00+00' AND '9999-12-31 23:59:59.999999+00'
        THEN gone.archived_at END AS archived_at
FROM archived_flows AS gone
WHERE gone.archive_no < $1
    AND (SELECT count(*) FROM archived_flows AS later
        WHERE later.flow_id = gone.flow_id AND later.archive_no > gone.archive_no) = 0
ORDER BY gone.archive_no DESC
LIMIT $2

-- name: list_ended
-- List flows that ended before a time and are no other's children, in the order of their ids. Each
-- kind of end has an index by flow of its own.
-- $1 timestamptz, $2 uuid after which they begin, $3 bigint maximum number of rows
SELECT ended.flow_id
FROM (
    (SELECT ending.flow_id
    FROM event_log AS ending
    WHERE ending.event_type = 'flowcompleted' AND ending.ts < $1 AND ending.flow_id > $2
        AND (SELECT count(*) FROM event_log AS beginning
            WHERE beginning.flow_id = ending.flow_id AND beginning.version = 0
                AND (beginning.payload -> 'parent') IS NULL) > 0
    ORDER BY ending.flow_id
    LIMIT $3)
    UNION
    (SELECT ending.flow_id
    FROM event_log AS ending
    WHERE ending.event_type = 'flowcancelled' AND ending.ts < $1 AND ending.flow_id > $2
        AND (SELECT count(*) FROM event_log AS beginning
            WHERE beginning.flow_id = ending.flow_id AND beginning.version = 0
                AND (beginning.payload -> 'parent') IS NULL) > 0
    ORDER BY ending.flow_id
    LIMIT $3)
) AS ended
ORDER BY ended.flow_id
LIMIT $3

-- name: read_register
-- Read one page of the register, in the order of the numbers; a time outside datetime's range is
-- null.
-- $1 bigint number after which the page begins, $2 bigint maximum number of rows
SELECT gone.archive_no, gone.flow_id, gone.version, gone.chain_hash, gone.first_seq, gone.last_seq,
    gone.bundle_sha256, gone.consumers,
    CASE WHEN gone.archived_at BETWEEN '0001-01-01 00:00:00+00' AND '9999-12-31 23:59:59.999999+00'
        THEN gone.archived_at END AS archived_at,
    gone.actor, gone.by_role::text AS by_role
FROM archived_flows AS gone
WHERE gone.archive_no > $1
ORDER BY gone.archive_no
LIMIT $2
