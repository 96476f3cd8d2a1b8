"""The feed: all events of a log in the order of `seq`, without missing one that commits late.

A writer takes its numbers before it commits, so a larger one may be visible before a smaller one. Each append therefore
holds a lock that says beyond which number its own are (PostgreSQL manual, section 13.3.5, advisory locks), and a page of
the feed ends before the first number that somebody may still commit. Nothing is taken from a snapshot's transaction
ids, so that the feed goes on after a restore, and is stalled by no other transaction of the server.
"""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

from chem_persistence.codec import decode_event
from chem_persistence.domain.events import FlowEvent
from chem_persistence.ports import Connection, ConnectionProvider
from chem_persistence.postgres.rows import stored_event
from chem_persistence.postgres.session import call
from chem_persistence.postgres.statements import FIND_FEED_END, READ_FEED_PAGE

__all__ = ["find_feed_end", "follow_feed", "read_feed_page"]

PAGE_SIZE = 1_000


async def find_feed_end(provider: ConnectionProvider) -> int:
    """Find the seq up to which the log is complete, for good.

    Raises:
        StoreUnavailable: the store cannot be reached.
        StoreError: the server is a standby.
    """
    (end,) = await call(provider, lambda connection: connection.fetch(FIND_FEED_END))
    seq: int = end["seq"]
    return seq


async def read_feed_page(provider: ConnectionProvider, after_seq: int, limit: int) -> list[FlowEvent]:
    """Read the next events; see `EventFeed.read_feed`."""

    async def read(connection: Connection) -> list[Any]:
        (end,) = await connection.fetch(FIND_FEED_END)
        if end["seq"] <= after_seq:
            return []
        return await connection.fetch(READ_FEED_PAGE, after_seq, end["seq"], limit)

    return [decode_event(stored_event(row)) for row in await call(provider, read)]


async def follow_feed(
    provider: ConnectionProvider, after_seq: int, poll_interval: float
) -> AsyncGenerator[FlowEvent]:
    """Give the events one after another, and wait for more; see `EventFeed.follow`."""
    while True:
        events = await read_feed_page(provider, after_seq, PAGE_SIZE)
        for event in events:
            after_seq = event.seq
            yield event
        if not events:
            await asyncio.sleep(poll_interval)
