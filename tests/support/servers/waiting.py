"""Waits until sessions of a database wait for locks."""

import asyncio
from typing import Any, Protocol

__all__ = ["until_blocked"]

BLOCKED = """
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND wait_event_type = 'Lock'
"""


class Asks(Protocol):
    """A connection or a pool."""

    async def fetchval(self, query: str) -> Any:
        """Return the value of a query."""
        ...


async def until_blocked(asks: Asks, sessions: int = 1) -> None:
    """Return once this many sessions of the database wait for a lock."""
    async with asyncio.timeout(30):
        while await asks.fetchval(BLOCKED) < sessions:
            await asyncio.sleep(0.01)
