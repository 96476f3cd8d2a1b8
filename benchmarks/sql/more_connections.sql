-- Let 128 clients of pgbench and the pools of all competitors be connected at once; nothing else differs from the defaults.
ALTER SYSTEM SET max_connections = 400
