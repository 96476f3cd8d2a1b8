-- Find the seq up to which the log is complete, for good.
SELECT feed_end() AS seq
