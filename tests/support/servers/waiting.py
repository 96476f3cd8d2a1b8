"""Waits until sessions of a database wait for locks, or no longer see what was deleted."""

import asyncio
from typing import Any, Protocol

__all__ = ["until_all_see_the_same", "until_blocked"]

BLOCKED = """
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND wait_event_type = 'Lock'
"""
OLD_SNAPSHOTS = """
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_xmin IS NOT NULL
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


async def until_all_see_the_same(asks: Asks) -> None:
    """Return once no other session has a snapshot, such as an ANALYZE that the server began."""
    async with asyncio.timeout(30):
        while await asks.fetchval(OLD_SNAPSHOTS):
            await asyncio.sleep(0.01)
