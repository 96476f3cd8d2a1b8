-- Durable consumers: subscribers of the feed whose position is stored in the transaction that holds
-- what they made of the events. The flows of the log are divided into parts, by their id; each part
-- is held by one process at a time.
-- Each statement stands below a line that begins with "-- statement:"; they run one by one in one
-- transaction.

-- statement: one row for each part of a consumer. seq, flow_id and link are its position, the last
-- event of the log that it has passed; passed_seq is the end of the feed up to which nothing follows.
-- lease and holder are of the process that works on the part, until due_at. tries counts the claims
-- since the position moved, page is how many events the next transaction may have, and error is the
-- last failure. While the number of parts is changed to next_parts, no part passes until_seq
CREATE TABLE feed_consumers (
    name text NOT NULL,
    part integer NOT NULL,
    parts integer NOT NULL,
    seq bigint NOT NULL,
    flow_id uuid,
    link bytea,
    passed_seq bigint NOT NULL DEFAULT 0,
    until_seq bigint,
    next_parts integer,
    lease uuid,
    holder text,
    due_at timestamptz NOT NULL DEFAULT '-infinity',
    tries integer NOT NULL DEFAULT 0,
    page integer NOT NULL DEFAULT 1000,
    error text,
    moved_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT feed_consumers_pkey PRIMARY KEY (name, part),
    CONSTRAINT feed_consumers_part_check CHECK (part BETWEEN 0 AND parts - 1),
    CONSTRAINT feed_consumers_parts_check CHECK (parts BETWEEN 1 AND 256),
    CONSTRAINT feed_consumers_next_parts_check CHECK (next_parts BETWEEN 1 AND 256),
    CONSTRAINT feed_consumers_position_check
        CHECK ((seq = 0) = (flow_id IS NULL) AND (seq = 0) = (link IS NULL)),
    CONSTRAINT feed_consumers_until_check CHECK ((until_seq IS NULL) = (next_parts IS NULL))
) WITH (fillfactor = 50)

-- statement: the flows that a consumer has put aside, since one of their events failed: seq and
-- event_id are of the first event that was not consumed, and everything of the flow from there on
-- waits. One that is released is consumed by the holder of its part, up to the part's position
CREATE TABLE feed_parked (
    name text NOT NULL,
    flow_id uuid NOT NULL,
    seq bigint NOT NULL,
    event_id uuid NOT NULL,
    error text NOT NULL,
    parked_at timestamptz NOT NULL DEFAULT now(),
    is_released boolean NOT NULL DEFAULT false,
    CONSTRAINT feed_parked_pkey PRIMARY KEY (name, flow_id)
)

-- statement: roles that may change the workers, or read them, may do the same with these tables
DO $$
DECLARE
    given record;
BEGIN
    FOR given IN
        SELECT own.grantee, bool_or(own.privilege_type = 'INSERT') AS may_change
        FROM pg_class AS relation
        CROSS JOIN LATERAL aclexplode(relation.relacl) AS own
        WHERE relation.oid = 'flow_workers'::regclass AND own.grantee <> relation.relowner
            AND own.privilege_type IN ('SELECT', 'INSERT')
        GROUP BY own.grantee
    LOOP
        EXECUTE format('GRANT %s ON feed_consumers, feed_parked TO %s',
            CASE WHEN given.may_change THEN 'SELECT, INSERT, UPDATE, DELETE' ELSE 'SELECT' END,
            CASE given.grantee WHEN 0 THEN 'PUBLIC' ELSE given.grantee::regrole::text END);
    END LOOP;
END
$$
