-- Say which transactions are under way (all from `oldest` on may be, none from `next` on has begun), and which number the
-- sequence of the log gave last (null: none yet, or the role may not see it).
SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint AS oldest,
    pg_snapshot_xmax(pg_current_snapshot())::text::bigint AS next,
    (SELECT last_value FROM pg_sequences WHERE schemaname = current_schema() AND sequencename = 'event_log_seq_seq')
        AS last_seq
