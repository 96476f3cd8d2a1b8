-- Describe the server, the database and who is connected.
SELECT current_setting('server_version') AS server_version, current_database()::text AS database,
    current_user::text AS role, pg_database_size(current_database()) AS bytes
