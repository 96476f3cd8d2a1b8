"""The feed: all events of a log in the order of `seq`, without missing one that commits late.

A writer takes its numbers before it commits, so a larger one may be visible before a smaller one. Each append therefore
holds a lock that says beyond which number its own are (PostgreSQL manual, section 13.3.5, advisory locks), and a page of
the feed ends before the first number that somebody may still commit. Nothing is taken from a snapshot's transaction
ids, so that the feed goes on after a restore, and is stalled by no other transaction of the server.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from typing import Any
from uuid import UUID

import anyio
import msgspec

from chem_persistence.domain.events import FlowEvent
from chem_persistence.postgres.connection.ports import Connection, ConnectionProvider
from chem_persistence.postgres.connection.session import call
from chem_persistence.postgres.read.flows import iterate_events
from chem_persistence.postgres.read.rows import stored_event
from chem_persistence.postgres.schema.statements import statement
from chem_persistence.store.checks import check_countable
from chem_persistence.store.codec import decode_event

__all__ = [
    "LogTail",
    "find_feed_end",
    "follow_feed",
    "follow_log",
    "read_feed_page",
    "read_log_tail",
]

FIND_FEED_END = statement("events/find_feed_end")
FIND_FLOW_END = statement("tail/find_flow_end")
READ_FEED_PAGE = statement("events/read_feed_page")
READ_LAST_EVENTS = statement("tail/read_last_events")


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


async def read_feed_page(
    provider: ConnectionProvider, after_seq: int, limit: int
) -> list[FlowEvent]:
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


PAGE_SIZE = 1_000


class LogTail(msgspec.Struct, frozen=True):
    """The last events, and where the next ones begin: after `place`, a flow's version, or a seq if it is to be followed."""

    events: Sequence[FlowEvent]
    place: int


async def read_log_tail(
    provider: ConnectionProvider,
    count: int,
    flow_id: UUID | None = None,
    *,
    to_follow: bool = False,
) -> LogTail:
    """Read the last `count` events of the log, or of a flow, the oldest of them first.

    With `to_follow` they end where the feed ends, so that an event which commits late comes when it is followed.

    Raises:
        InvalidArgument: the count is one that the database cannot count to.
        UnreadableEvent: one of them does not decode.
        StoreUnavailable, StoreError: the log could not be read.
    """
    check_countable(count=count)
    if flow_id is not None:
        ((end,),) = await call(
            provider, lambda connection: connection.fetch(FIND_FLOW_END, flow_id)
        )
        begin = max(0, end - count)
        events = (
            [event async for event in iterate_events(provider, flow_id, begin - 1)] if count else []
        )
        return LogTail(events, events[-1].version if events else end - 1)
    last = await find_feed_end(provider) if to_follow else None
    rows = await call(provider, lambda connection: connection.fetch(READ_LAST_EVENTS, count, last))
    return LogTail([decode_event(stored_event(row)) for row in reversed(rows)], last or 0)


async def follow_log(
    provider: ConnectionProvider, tail: LogTail, interval: float, flow_id: UUID | None = None
) -> AsyncIterator[Sequence[FlowEvent]]:
    """Give what comes after `tail`, for ever, looking every `interval` seconds; nothing is held in between.

    Raises:
        UnreadableEvent: an event does not decode.
        StoreUnavailable, StoreError: the log could not be read.
    """
    place = tail.place
    while True:
        if flow_id is None:
            events = await read_feed_page(provider, place, PAGE_SIZE)
            place = events[-1].seq if events else place
        else:
            events = [event async for event in iterate_events(provider, flow_id, place)]
            place = events[-1].version if events else place
        yield events
        if not events:
            await anyio.sleep(interval)
