"""Durable consumers under faults of their processes and server, and a checker of the effects."""
