"""The in-memory backend: the same meaning as PostgreSQL, for tests and for flows that need not last."""
