"""Other libraries that make steps, jobs or events durable in PostgreSQL, by their public APIs."""
