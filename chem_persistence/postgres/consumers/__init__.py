"""Durable consumers on PostgreSQL: their parts, and what an operator does with them."""
