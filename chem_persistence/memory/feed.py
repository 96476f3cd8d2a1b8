"""The feed of a store in memory, which never goes back; positions of other logs do not hold."""

from chem_persistence.memory.log import MemoryLog
from chem_persistence.store.feed import SourcePage, history_lost, seq_lost
from chem_persistence.store.feed_position import (
    WINDOW_EVENTS,
    FeedPosition,
    FeedWindow,
    PositionState,
)

__all__ = ["MemoryFeedSource"]

MOST_NAMED = 100
"""How many of the flows that a follower has missed are named."""


class MemoryFeedSource:
    """The feed of a log in memory, and what the log holds at positions in it."""

    def __init__(self, log: MemoryLog) -> None:
        self._log = log

    async def read_after(
        self, after: int | FeedPosition, limit: int, archived: int | None
    ) -> SourcePage:
        """Return the next events; see `FeedSource.read_after`."""
        if isinstance(after, FeedPosition):
            state = self._state(after)
            if after.seq and self._link(after) != after.link and state is not PositionState.HOLDS:
                raise history_lost(after, state, self._log.feed_end())
            return self._told(after.seq, limit, after.archived if archived is None else archived)
        if after > self._log.numbers.last:
            raise seq_lost(after, self._log.numbers.last)
        if archived is None:
            return SourcePage(self._log.feed(after, limit), self._log.register.last_no)
        return self._told(after, limit, archived)

    def _told(self, seq: int, limit: int, archived: int) -> SourcePage:
        """Return the page after `seq` with what was archived since the number `archived`."""
        last = self._log.register.last_no
        known = archived if last >= archived else 0  # it is another log's
        missed = [row.flow_id for row in self._log.register.after(known) if row.last_seq > seq]
        if missed:
            return SourcePage((), last, len(missed), missed[:MOST_NAMED])
        return SourcePage(self._log.feed(seq, limit), last)

    async def window(self, position: FeedPosition) -> FeedWindow:
        """Return the window behind a position; see `FeedSource.window`."""
        if (state := self._state(position)) is not PositionState.HOLDS:
            raise history_lost(position, state, self._log.feed_end())
        return self._window(position)

    async def state(self, position: FeedPosition) -> PositionState:
        """Return what the log holds at a position; see `FeedSource.state`."""
        return self._state(position)

    async def position(self, seq: int | None) -> FeedPosition:
        """Return the position after the last event up to a `seq`; see `EventFeed.position`."""
        if seq is not None and seq > self._log.numbers.last:
            raise seq_lost(seq, self._log.numbers.last)
        end, archived = self._log.feed_end(), self._log.register.last_no
        last = self._log.feed_before(end if seq is None else min(seq, end), WINDOW_EVENTS)
        if not last:
            return FeedPosition.start().with_archived(archived)
        since = last[0].seq - 1 if len(last) == WINDOW_EVENTS else 0
        window = FeedWindow(since, [(event.seq, event.link) for event in last])
        return window.position(last[-1].flow_id, archived)

    def _link(self, position: FeedPosition) -> bytes | None:
        at = self._log.feed_before(position.seq, 1)
        if not at or (at[0].seq, at[0].flow_id) != (position.seq, position.flow_id):
            return None
        return at[0].link

    def _state(self, position: FeedPosition) -> PositionState:
        """Return what the log holds at a position; what was archived changes nothing."""
        register = self._log.register
        if not position.seq:
            return PositionState.HOLDS
        if self._link(position) != position.link:
            at = self._log.feed_before(position.seq, 1)
            if at and at[0].seq == position.seq:
                return PositionState.REPLACED
            is_archived = register.has_event(position.flow_id, position.seq)
            return PositionState.HOLDS if is_archived else PositionState.GONE
        is_touched = register.touches(position.since, position.seq)
        if self._window(position).digest() != position.digest and not is_touched:
            return PositionState.WINDOW_DIFFERS
        return PositionState.HOLDS

    def _window(self, position: FeedPosition) -> FeedWindow:
        last = self._log.feed_before(position.seq, WINDOW_EVENTS + 1)
        links = [(event.seq, event.link) for event in last if event.seq > position.since]
        return FeedWindow(position.since, links)
