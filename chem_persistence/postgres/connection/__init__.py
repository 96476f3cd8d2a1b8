"""Connections: URL, pool, sessions, transactions, failures."""
