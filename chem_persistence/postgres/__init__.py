"""The PostgreSQL backend: the only package that knows the driver."""
