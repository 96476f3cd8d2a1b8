-- Permit 128 clients of pgbench and the pools of all competitors to be connected at once; nothing
-- else differs from the defaults.
ALTER SYSTEM SET max_connections = 400
