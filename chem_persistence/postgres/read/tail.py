"""The tail of the log or of a flow: its last events, and those that are appended after them."""

from collections.abc import AsyncIterator, Sequence
from typing import Any, Protocol
from uuid import UUID

import anyio
import msgspec

from chem_persistence.domain.events import FlowEvent
from chem_persistence.postgres.connection.ports import ConnectionProvider
from chem_persistence.postgres.connection.session import Session
from chem_persistence.postgres.read.feed import PgFeedSource
from chem_persistence.postgres.read.flows import SizedPages, raise_if_vanished
from chem_persistence.postgres.read.rows import stored_event
from chem_persistence.postgres.schema.statements import statement
from chem_persistence.store.checks import check_countable
from chem_persistence.store.codec import decode_event
from chem_persistence.store.feed import EVENTS_PER_FEED_PAGE, FeedReader

__all__ = ["LogTail", "TailReader", "follow_log", "read_log_tail"]

FIND_FLOW_END = statement("tail/find_flow_end")
READ_FLOW_TAIL = statement("tail/read_flow_tail")
READ_LAST_EVENTS = statement("tail/read_last_events")


class TailReader(Protocol):
    """Reads the next events of the log or of a flow; it stays where it is when a read fails."""

    async def read(self) -> Sequence[FlowEvent]:
        """Return the next events; empty if there are none yet.

        Raises:
            HistoryLost: the log does not hold what was read before.
            EventsArchived: flows were archived before their last events were read; it may be
                called again, and goes on past them.
            FlowArchived: the flow was archived.
            UnreadableEvent: an event does not decode.
            StoreUnavailable, StoreError: the log could not be read.
        """
        ...


class LogTail(msgspec.Struct, frozen=True):
    """The last events, and the reader of those that come after them."""

    events: Sequence[FlowEvent]
    reader: TailReader


async def read_log_tail(
    provider: ConnectionProvider,
    count: int,
    flow_id: UUID | None = None,
    *,
    to_follow: bool = False,
) -> LogTail:
    """Read the last `count` events of the log, or of a flow, in their order.

    With `to_follow` they end where the feed ends, so that an event that commits late is among those
    that come after them.

    Raises:
        InvalidArgument: `count` is negative or beyond 64 bits.
        UnreadableEvent: an event does not decode.
        StoreUnavailable, StoreError: the log could not be read.
    """
    check_countable(count=count)
    session = Session(provider)
    if flow_id is not None:
        ((end,),) = await session.fetch(FIND_FLOW_END, flow_id)
        # the last event is read in any case: those that follow it are checked against it
        reader = _FlowTail(provider, flow_id, max(0, end - max(count, 1)))
        events = list[FlowEvent]()
        while page := await reader.read():
            events += page
        return LogTail(events[min(end, 1) :] if count == 0 else events, reader)
    source = PgFeedSource(provider)
    position = await source.position(None) if to_follow else None
    last = None if position is None else position.seq
    rows = await session.fetch(READ_LAST_EVENTS, count, last)
    events = [decode_event(stored_event(row)) for row in reversed(rows)]
    return LogTail(events, _FeedTail(FeedReader(source, position or 0)))


async def follow_log(reader: TailReader, interval: float) -> AsyncIterator[Sequence[FlowEvent]]:
    """Yield the next events as they come, and poll every `interval` seconds, for ever.

    An empty sequence is yielded before each pause. No connection is held in between. After an error
    it may be called again with the same reader. Raises what `TailReader.read` raises.
    """
    while True:
        events = await reader.read()
        yield events
        if not events:
            await anyio.sleep(interval)


class _FeedTail:
    """The tail of the whole log."""

    def __init__(self, reader: FeedReader) -> None:
        self._reader = reader

    async def read(self) -> Sequence[FlowEvent]:
        stored = list(await self._reader.read(EVENTS_PER_FEED_PAGE))
        events = [decode_event(event) for event in stored]
        for event in stored:
            self._reader.advance(event)
        return events


class _FlowTail:
    """The tail of one flow, from a version on.

    Each page begins with the last event of the page before, which must not have changed.
    """

    def __init__(self, provider: ConnectionProvider, flow_id: UUID, version: int) -> None:
        self._session = Session(provider)
        self._flow_id = flow_id
        self._next = version
        self._link: bytes | None = None
        self._pages = SizedPages(EVENTS_PER_FEED_PAGE)

    async def read(self) -> Sequence[FlowEvent]:
        known = self._link is not None
        is_changed = False

        async def fetch(count: int, bytes_each: int) -> list[Any]:
            nonlocal is_changed
            rows = await self._session.fetch(
                READ_FLOW_TAIL, self._flow_id, self._next, self._link, count + known, bytes_each
            )
            is_changed = known and (not rows or rows[0]["chain_hash"] != self._link)
            return rows[known:]

        rows = await self._pages.read(fetch, ())
        if is_changed or (not known and not rows):
            await raise_if_vanished(self._session, self._flow_id, self._next, self._link)
        stored = [stored_event(row) for row in rows]
        events = [decode_event(event) for event in stored]
        if stored:
            self._next, self._link = stored[-1].version + 1, stored[-1].link
        return events
