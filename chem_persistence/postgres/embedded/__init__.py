"""A PostgreSQL server that the library starts itself."""
