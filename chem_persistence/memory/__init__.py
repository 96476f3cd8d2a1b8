"""The in-memory stores: the behaviour of PostgreSQL's, for tests and short-lived flows."""
