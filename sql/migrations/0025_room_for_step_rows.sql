-- The row of a step is written when the step starts and updated when it ends. No index has a column
-- that such an update changes (the primary key is flow_id, step_index), so the new version needs no
-- entry in an index if it has room on the page of the old one (a HOT update, PostgreSQL manual,
-- section 66.7). Half of each page is kept free for that.
-- It counts for pages that are written from now on, and takes a lock that holds up neither reads nor
-- appends. Steps that have ended are not updated any more: an existing table need not be rewritten.
-- Each statement stands below a line that begins with "-- statement:"; they run one by one in one
-- transaction.

-- statement: leave room for the later versions of the rows that a page begins with
ALTER TABLE workflow_step_executions SET (fillfactor = 50)
