"""The tail of the log or of a flow: its last events, and those that are appended after them."""

from collections.abc import AsyncIterator, Sequence
from uuid import UUID

import anyio
import msgspec

from chem_persistence.domain.events import FlowEvent
from chem_persistence.postgres.connection.ports import ConnectionProvider
from chem_persistence.postgres.connection.session import Session
from chem_persistence.postgres.read.feed import EVENTS_PER_FEED_PAGE, find_feed_end, read_feed_page
from chem_persistence.postgres.read.flows import iterate_events
from chem_persistence.postgres.read.rows import stored_event
from chem_persistence.postgres.schema.statements import statement
from chem_persistence.store.checks import check_countable
from chem_persistence.store.codec import decode_event

__all__ = ["LogTail", "follow_log", "read_log_tail"]

FIND_FLOW_END = statement("tail/find_flow_end")
READ_LAST_EVENTS = statement("tail/read_last_events")


class LogTail(msgspec.Struct, frozen=True):
    """The last events, and the position after which the next ones begin.

    The position is a version in the tail of a flow, and a `seq` in the tail of the log, where it is
    0 unless the tail was read to be followed.
    """

    events: Sequence[FlowEvent]
    position: int


async def read_log_tail(
    provider: ConnectionProvider,
    count: int,
    flow_id: UUID | None = None,
    *,
    to_follow: bool = False,
) -> LogTail:
    """Read the last `count` events of the log, or of a flow, in their order.

    With `to_follow` they end where the feed ends, so that `follow_log` yields an event that commits
    late.

    Raises:
        InvalidArgument: `count` is negative or beyond 64 bits.
        UnreadableEvent: an event does not decode.
        StoreUnavailable, StoreError: the log could not be read.
    """
    check_countable(count=count)
    session = Session(provider)
    if flow_id is not None:
        ((end,),) = await session.fetch(FIND_FLOW_END, flow_id)
        begin = max(0, end - count)
        events = (
            [event async for event in iterate_events(provider, flow_id, begin - 1)] if count else []
        )
        return LogTail(events, events[-1].version if events else end - 1)
    last = await find_feed_end(provider) if to_follow else None
    rows = await session.fetch(READ_LAST_EVENTS, count, last)
    return LogTail([decode_event(stored_event(row)) for row in reversed(rows)], last or 0)


async def follow_log(
    provider: ConnectionProvider, tail: LogTail, interval: float, flow_id: UUID | None = None
) -> AsyncIterator[Sequence[FlowEvent]]:
    """Yield the events after `tail` as they come, and poll every `interval` seconds, for ever.

    An empty sequence is yielded before each pause. No connection is held in between.

    Raises:
        UnreadableEvent: an event does not decode.
        StoreUnavailable, StoreError: the log could not be read.
    """
    position = tail.position
    while True:
        if flow_id is None:
            events = await read_feed_page(provider, position, EVENTS_PER_FEED_PAGE)
            position = events[-1].seq if events else position
        else:
            events = [event async for event in iterate_events(provider, flow_id, position)]
            position = events[-1].version if events else position
        yield events
        if not events:
            await anyio.sleep(interval)
