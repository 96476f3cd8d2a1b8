-- Make a schema the one whose names the server writes bare, until the transaction ends.
-- $1 text schema
SELECT set_config('search_path', quote_ident($1::text), true)
