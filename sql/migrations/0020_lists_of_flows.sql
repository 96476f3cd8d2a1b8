-- Lists of flows stay quick in a log of a million children: flows without a parent, and flows by
-- their label. Each index has an entry a flow at most, written with its first event.
-- Each statement stands below a line that begins with "-- statement:"; they run one by one in one
-- transaction.

-- statement: the flows that no other flow runs, in the order of their beginning
CREATE INDEX event_log_root_idx ON event_log (ts, flow_id)
    WHERE version = 0 AND (payload -> 'parent') IS NULL

-- statement: the flows whose label begins with a text
CREATE INDEX event_log_label_idx ON event_log ((payload ->> 'label') COLLATE "C", ts, flow_id)
    WHERE version = 0 AND payload ? 'label'
