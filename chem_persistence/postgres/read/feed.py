"""The feed: all events of the log in the order of `seq`, including those that commit late.

A writer takes its `seq` numbers before it commits, so a larger one may become visible before a
smaller one. Each append therefore holds an advisory lock that states the number after which its own
begin (PostgreSQL manual, section 13.3.5), and a page of the feed ends before the first number that
an open transaction may still commit. The feed does not use the transaction ids of snapshots, so it
continues after a restore, and no unrelated transaction of the server can stall it.
"""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

from chem_persistence.domain.events import FlowEvent
from chem_persistence.postgres.connection.ports import Connection, ConnectionProvider
from chem_persistence.postgres.connection.session import Session
from chem_persistence.postgres.read.rows import stored_event
from chem_persistence.postgres.schema.statements import statement
from chem_persistence.store.codec import decode_event

__all__ = ["EVENTS_PER_FEED_PAGE", "find_feed_end", "follow_feed", "read_feed_page"]

FIND_FEED_END = statement("events/find_feed_end")
READ_FEED_PAGE = statement("events/read_feed_page")

EVENTS_PER_FEED_PAGE = 1_000
"""How many events are read at a time while the feed is followed."""


async def find_feed_end(provider: ConnectionProvider) -> int:
    """Return the `seq` up to which the log is complete and stays so.

    Raises:
        StoreUnavailable: the database could not be reached.
        StoreError: the server is a standby.
    """
    (end,) = await Session(provider).fetch(FIND_FEED_END)
    seq: int = end["seq"]
    return seq


async def read_feed_page(
    provider: ConnectionProvider, after_seq: int, limit: int
) -> list[FlowEvent]:
    """Read the next events; see `EventFeed.read_feed`."""

    async def read(connection: Connection) -> list[Any]:
        (end,) = await connection.fetch(FIND_FEED_END)
        if end["seq"] <= after_seq:
            return []
        return await connection.fetch(READ_FEED_PAGE, after_seq, end["seq"], limit)

    return [decode_event(stored_event(row)) for row in await Session(provider).run(read)]


async def follow_feed(
    provider: ConnectionProvider, after_seq: int, poll_interval: float
) -> AsyncGenerator[FlowEvent]:
    """Yield the events one by one, and poll for more; see `EventFeed.follow`."""
    while True:
        events = await read_feed_page(provider, after_seq, EVENTS_PER_FEED_PAGE)
        for event in events:
            after_seq = event.seq
            yield event
        if not events:
            await asyncio.sleep(poll_interval)
