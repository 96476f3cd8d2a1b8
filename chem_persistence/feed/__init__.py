"""Durable consumers: the feed in parts, consumed in transactions that hold the position too."""
