"""The end of the log, for a person who watches it: the last events, and then each that comes, once."""

from collections.abc import AsyncIterator, Sequence
from uuid import UUID

import anyio
import msgspec

from chem_persistence.argument_checks import check_countable
from chem_persistence.codec import decode_event
from chem_persistence.domain.events import FlowEvent
from chem_persistence.ports import ConnectionProvider
from chem_persistence.postgres.event_feed import find_feed_end, read_feed_page
from chem_persistence.postgres.event_pages import iterate_events
from chem_persistence.postgres.rows import stored_event
from chem_persistence.postgres.session import call
from chem_persistence.postgres.statements import FIND_FLOW_END, READ_LAST_EVENTS

__all__ = ["LogTail", "follow_log", "read_log_tail"]

PAGE_SIZE = 1_000


class LogTail(msgspec.Struct, frozen=True):
    """The last events, and where the next ones begin: after `place`, a flow's version, or a seq if it is to be followed."""

    events: Sequence[FlowEvent]
    place: int


async def read_log_tail(
    provider: ConnectionProvider, count: int, flow_id: UUID | None = None, *, to_follow: bool = False
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
        ((end,),) = await call(provider, lambda connection: connection.fetch(FIND_FLOW_END, flow_id))
        begin = max(0, end - count)
        events = [event async for event in iterate_events(provider, flow_id, begin - 1)] if count else []
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
