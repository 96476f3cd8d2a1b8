-- A table with the keys, the checks and the indexes of the log, but without its triggers.
CREATE TABLE own_log (LIKE event_log INCLUDING ALL);
