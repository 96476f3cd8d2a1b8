"""The end of the log, for a person who watches it: each event once, in the order in which they can be seen.

A transaction that took its numbers early may commit late. So what comes after a place is read again until everyone who
wrote when the place was reached has ended, and what was given before is left out.
"""

from collections.abc import AsyncIterator, Sequence
from uuid import UUID

import anyio
import msgspec

from chem_persistence.codec import decode_event
from chem_persistence.domain.events import FlowEvent
from chem_persistence.ports import ConnectionProvider
from chem_persistence.postgres.event_pages import iterate_events
from chem_persistence.postgres.rows import Row, stored_event
from chem_persistence.postgres.session import call
from chem_persistence.postgres.statements import (
    FIND_FLOW_END,
    READ_EVENTS_AFTER,
    READ_HORIZON,
    READ_LAST_EVENTS,
)

__all__ = ["LogTail", "follow_log", "read_log_tail"]

PAGE_SIZE = 5_000
LOOKED_BACK = 1_000
"""Events before the end whose neighbours may still be under way when a tail begins."""


class LogTail(msgspec.Struct, frozen=True):
    """The last events, and where the next ones begin: after `place` (a seq, or a flow's version), without those in `seen`."""

    events: Sequence[FlowEvent]
    place: int
    seen: frozenset[int] = frozenset()


async def read_log_tail(provider: ConnectionProvider, count: int, flow_id: UUID | None = None) -> LogTail:
    """Read the last `count` events of the log, or of a flow, the oldest of them first.

    Without a flow the whole log is looked at, as no index has its order.

    Raises:
        UnreadableEvent: one of them does not decode.
        StoreUnavailable, StoreError: the log could not be read.
    """
    if flow_id is not None:
        ((end,),) = await call(provider, lambda connection: connection.fetch(FIND_FLOW_END, flow_id))
        begin = max(0, end - count)
        events = [event async for event in iterate_events(provider, flow_id, begin - 1)] if count else []
        return LogTail(events, events[-1].version if events else end - 1)
    most = max(count, LOOKED_BACK)
    rows = await call(provider, lambda connection: connection.fetch(READ_LAST_EVENTS, most))
    place = rows[-1]["seq"] - 1 if len(rows) == most else 0
    shown = [decode_event(stored_event(row)) for row in reversed(rows[:count])]
    return LogTail(shown, place, frozenset(row["seq"] for row in rows))


async def follow_log(
    provider: ConnectionProvider, tail: LogTail, interval: float, flow_id: UUID | None = None
) -> AsyncIterator[Sequence[FlowEvent]]:
    """Give what comes after `tail`, for ever, looking every `interval` seconds; nothing is held in between.

    Raises:
        UnreadableEvent: an event does not decode.
        StoreUnavailable, StoreError: the log could not be read.
    """
    if flow_id is None:
        watch = _Watch(provider, tail)
        while True:
            yield await watch.look()
            await anyio.sleep(interval)
    version = tail.place
    while True:
        events = [event async for event in iterate_events(provider, flow_id, version)]
        yield events
        version = events[-1].version if events else version
        await anyio.sleep(interval)


class _Watch:
    """Knows up to which place nothing can be missing, and what was given beyond it."""

    def __init__(self, provider: ConnectionProvider, tail: LogTail) -> None:
        self._provider = provider
        self._settled = tail.place
        self._seen = set(tail.seen)
        self._checkpoint: tuple[int, frozenset[str]] | None = (
            None  # a place, and who may still write before it
        )
        self._last_seq: int | None = None
        self._quiet_at: int | None = None  # the last number, when nobody wrote and all was read

    async def look(self) -> list[FlowEvent]:
        """Read what is new."""
        (horizon,) = await call(self._provider, lambda connection: connection.fetch(READ_HORIZON))
        writers, last_seq = frozenset(horizon["writers"]), horizon["last_seq"]
        if last_seq is not None and last_seq == self._quiet_at:
            return []
        is_quiet = (
            not writers and last_seq == self._last_seq
        )  # so it was given before the writers were asked for
        self._quiet_at, self._last_seq = last_seq if is_quiet else None, last_seq
        if self._checkpoint is None and self._seen:
            self._checkpoint = (max(self._seen), writers)
        have_ended = self._checkpoint is not None and not writers & self._checkpoint[1]
        rows = await self._rows()  # after the writers were asked for, so that what they had committed is seen
        self._seen.update(row["seq"] for row in rows)
        if have_ended and self._checkpoint is not None:
            self._settled, self._checkpoint = self._checkpoint[0], None
            self._seen = {seq for seq in self._seen if seq > self._settled}
        return [decode_event(stored_event(row)) for row in rows]

    async def _rows(self) -> list[Row]:
        new: list[Row] = []
        place = self._settled
        while page := await self._page(place):
            new += [row for row in page if row["seq"] not in self._seen]
            place = page[-1]["seq"]
        return new

    async def _page(self, place: int) -> list[Row]:
        return await call(
            self._provider, lambda connection: connection.fetch(READ_EVENTS_AFTER, place, PAGE_SIZE)
        )
