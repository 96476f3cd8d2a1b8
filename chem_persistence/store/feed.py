"""Subscribers of the feed: pages and positions, alike in every store.

A store offers a `FeedSource`; what a subscriber calls is made from it here. Each page is checked
against the position that it follows. The digest of the window behind the position is compared with
the first page, and then at most once in `WINDOW_CHECK_SECONDS`.

A subscriber is told of the flows that left the log before it had read them to their end. Archives
have numbers in the order of their commits, and a subscriber keeps the greatest one that is known:
up to it, every flow either was known to be archived, or had no event after its position.
"""

import asyncio
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import aclosing
from time import monotonic
from typing import Protocol
from uuid import UUID

import msgspec

from chem_persistence.domain.events import FlowEvent
from chem_persistence.errors import EventsArchived, HistoryLost
from chem_persistence.store.codec import StoredEvent, decode_event
from chem_persistence.store.feed_position import (
    FeedPage,
    FeedPosition,
    FeedWindow,
    PositionState,
)

__all__ = [
    "EVENTS_PER_FEED_PAGE",
    "FeedReader",
    "FeedSource",
    "SourcePage",
    "follow_feed",
    "follow_with_positions",
    "history_lost",
    "newest_that_holds",
    "read_feed_page",
    "seq_lost",
]

EVENTS_PER_FEED_PAGE = 1_000
"""How many events are read at a time while the feed is followed."""

WINDOW_CHECK_SECONDS = 30.0
"""How often a subscriber compares the digest of the window behind its position."""


class SourcePage(msgspec.Struct, frozen=True):
    """The next events of the feed, which are checked one by one as they are taken.

    `archived` is the greatest number of an archive that was known when they were read. If `missed`
    is not 0, that many flows of the archives since the one that the reader knows have events after
    its position, and `flows` are the first of them.
    """

    events: Iterable[StoredEvent]
    archived: int = 0
    missed: int = 0
    flows: Sequence[UUID] = ()


class FeedSource(Protocol):
    """What a store has to offer for its feed to be read."""

    async def read_after(
        self, after: int | FeedPosition, limit: int, archived: int | None
    ) -> SourcePage:
        """Return the next events of the feed, and what was archived since the number `archived`.

        With None all archives before this call are known, and none is looked for.

        Raises:
            HistoryLost: the event of the position is not there, or no event ever had this `seq`.
        """
        ...

    async def window(self, position: FeedPosition) -> FeedWindow:
        """Return the window behind a position.

        Raises:
            HistoryLost: the log does not hold what was seen there.
        """
        ...

    async def position(self, seq: int | None) -> FeedPosition:
        """Return the position after the last event up to a `seq`; see `EventFeed.position`."""
        ...

    async def state(self, position: FeedPosition) -> PositionState:
        """Return what the log holds at a position."""
        ...


class FeedReader:
    """One subscriber: where it is, and the links of the last events that it was given."""

    def __init__(self, source: FeedSource, after: int | FeedPosition) -> None:
        self._source = source
        self._after = after
        # an int says nothing of the events before it, and before the first event there is none
        is_checked = isinstance(after, int) or not after.seq
        self._window = FeedWindow(_seq(after)) if is_checked else None
        self._check_at = monotonic() + (WINDOW_CHECK_SECONDS if is_checked else 0.0)
        self._last: StoredEvent | None = None
        self._archived = None if isinstance(after, int) else after.archived

    async def read(self, limit: int) -> Iterable[StoredEvent]:
        """Return the next events; those that the subscriber is given must be passed to `advance`.

        The window is compared after the page was read, so that a page is not returned if the log
        went back to an earlier state after the position was taken.

        Raises:
            HistoryLost: the log does not hold what was seen, or never gave out this `seq`.
            EventsArchived: flows were archived that were not read to their end. The next call goes
                on past them.
        """
        after = self.where
        page = await self._source.read_after(after, limit, self._archived)
        if isinstance(after, FeedPosition) and after.seq and monotonic() >= self._check_at:
            window = await self._source.window(after)
            self._window = self._window or window
            self._check_at = monotonic() + WINDOW_CHECK_SECONDS
        if page.missed:
            position = await self._source.position(after) if isinstance(after, int) else after
            position = position.with_archived(self._archived or 0)
            self._archived = page.archived
            raise EventsArchived(position, page.flows, page.missed, page.archived)
        self._archived = page.archived
        return page.events

    def advance(self, stored: StoredEvent) -> None:
        """Move behind an event of the last page."""
        if self._window is not None:
            self._window.add(stored.seq, stored.link)
        self._last = stored

    @property
    def where(self) -> int | FeedPosition:
        """The position after the last event, or what the subscriber began with."""
        if self._last is not None and self._window is not None:
            self._after = self._window.position(self._last.flow_id, self._archived or 0)
            self._last = None
        elif isinstance(self._after, FeedPosition) and self._after.archived != self._archived:
            self._after = self._after.with_archived(self._archived or 0)
        return self._after


async def follow_feed(reader: FeedReader, poll_interval: float) -> AsyncGenerator[FlowEvent]:
    """Yield the events one by one, and poll for more; see `EventFeed.follow`."""
    while True:
        is_idle = True
        for stored in await reader.read(EVENTS_PER_FEED_PAGE):
            is_idle = False
            event = decode_event(stored)
            reader.advance(stored)
            yield event
        if is_idle:
            await asyncio.sleep(poll_interval)


async def follow_with_positions(
    reader: FeedReader, poll_interval: float
) -> AsyncGenerator[tuple[FlowEvent, FeedPosition]]:
    """Yield each event with its position; see `EventFeed.follow_with_positions`."""
    async with aclosing(follow_feed(reader, poll_interval)) as events:
        async for event in events:
            position = reader.where
            assert isinstance(position, FeedPosition)  # noqa: S101  # it has been given an event
            yield event, position


async def read_feed_page(source: FeedSource, after: int | FeedPosition, limit: int) -> FeedPage:
    """Read one page with the position after it; see `EventFeed.read_feed_page`."""
    position = await source.position(after) if isinstance(after, int) else after
    reader = FeedReader(source, position)
    events: list[FlowEvent] = []
    for stored in await reader.read(limit):
        events.append(decode_event(stored))
        reader.advance(stored)
    where = reader.where
    return FeedPage(events, position if isinstance(where, int) else where)


async def newest_that_holds(
    source: FeedSource, positions: Iterable[FeedPosition]
) -> FeedPosition | None:
    """Return the newest position that holds; see `EventFeed.newest_that_holds`."""
    for position in sorted(positions, key=_seq, reverse=True):
        if await source.state(position) is PositionState.HOLDS:
            return position
    return None


def history_lost(position: FeedPosition, state: PositionState, found: int) -> HistoryLost:
    """Return the error for a position that does not hold; `found` is the feed's last `seq`."""
    return HistoryLost(
        f"position {position.seq}, an event of flow {position.flow_id}: {state}. The log, which "
        f"ends at {found} now, went back after it was read, or the position is of another log: "
        "rewind to the newest position that holds",
        flow_id=position.flow_id,
        known=position.seq,
        found=found,
    )


def seq_lost(seq: int, last_seq: int) -> HistoryLost:
    """Return the error for a `seq` that was seen and is beyond the last one ever given out."""
    return HistoryLost(
        f"no event can have been read at {seq}: the last number that the log gave out is "
        f"{last_seq}. It went back after it was read, or {seq} is of another log",
        flow_id=None,
        known=seq,
        found=last_seq,
    )


def _seq(after: int | FeedPosition) -> int:
    return after if isinstance(after, int) else after.seq
