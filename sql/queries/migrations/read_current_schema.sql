-- Give the schema in which this session finds and makes tables, null if there is none.
SELECT current_schema()
