-- States of long flows, so that opening one costs the events since then. Never the truth: whatever does not fit the log is
-- ignored, and the table may be emptied at any time.
-- Each statement stands below a line that begins with "-- statement:"; they run one by one in one transaction.

-- statement: the last snapshot of a flow: its state after so many events, the link of the last of them, and for what it is
CREATE TABLE flow_snapshots (
    flow_id uuid NOT NULL,
    version integer NOT NULL,
    chain_hash bytea NOT NULL,
    definition_hash text NOT NULL,
    format integer NOT NULL,
    state bytea NOT NULL,
    state_hash bytea NOT NULL,
    created_at timestamptz NOT NULL,
    CONSTRAINT flow_snapshots_pkey PRIMARY KEY (flow_id),
    CONSTRAINT flow_snapshots_version_check CHECK (version >= 1),
    CONSTRAINT flow_snapshots_chain_hash_check CHECK (octet_length(chain_hash) = 32),
    CONSTRAINT flow_snapshots_definition_hash_check CHECK (definition_hash ~ '^[0-9a-f]{64}$'),
    CONSTRAINT flow_snapshots_state_hash_check CHECK (octet_length(state_hash) = 32)
)

-- statement: a state is read and replaced whole, and compressing it would cost more than all the rest
ALTER TABLE flow_snapshots ALTER COLUMN state SET STORAGE EXTERNAL
