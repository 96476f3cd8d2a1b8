"""Other libraries that make steps, jobs or events durable in PostgreSQL, each through its own public API."""
