"""The ports of those who read much: one long flow, many flows, or the whole log as it grows."""

from collections.abc import AsyncIterator, Iterable
from typing import Protocol
from uuid import UUID

from chem_persistence.domain.events import FlowEvent

__all__ = ["EventFeed", "EventReader"]


class EventReader(Protocol):
    """Other ways to read a log: one long flow without holding it, or many flows at once."""

    def iterate(self, flow_id: UUID, *, after_version: int = -1) -> AsyncIterator[FlowEvent]:
        """Read a flow's events one after another, from the one after `after_version` on, in bounded memory.

        What is appended meanwhile comes too; it ends where the flow ends when the end is reached. It may be abandoned
        anywhere: it keeps nothing but the events that it has read ahead.

        Raises:
            InvalidArgument: the flow id is none.
            UnreadableEvent: the next event does not decode, or is missing; those before it were given.
            StoreUnavailable, StoreError: the store cannot be reached, or refused.
        """
        ...

    async def list_many(self, flow_ids: Iterable[UUID]) -> dict[UUID, list[FlowEvent]]:
        """Read all events of some flows, each flow's in order; a flow without events has an empty list.

        Raises:
            InvalidArgument: a flow id is none.
            UnreadableEvent: an event does not decode, or one is missing.
            StoreUnavailable, StoreError: the store cannot be reached, or refused.
        """
        ...


class EventFeed(Protocol):
    """The whole log in the order of `seq`, for subscribers: projections, dashboards, other systems.

    Whoever has seen a `seq` never misses an event with a smaller one, also if it is committed later: a page ends before the
    first number that an open transaction may still commit. Numbers have gaps, where an append failed.
    """

    async def read_feed(self, *, after_seq: int = 0, limit: int = 1_000) -> list[FlowEvent]:
        """Read the next events after the one whose `seq` is `after_seq`, at most `limit`; none: there are none yet.

        Keep the last event's `seq` with what is made of the events, in one transaction, and go on from there.

        Raises:
            InvalidArgument: `after_seq` or `limit` is negative, or more than 64 bits can count.
            UnreadableEvent: an event does not decode.
            StoreUnavailable: the store cannot be reached.
            StoreError: the server is a standby, which does not know what is being written.
        """
        ...

    def follow(self, *, after_seq: int = 0, poll_interval: float = 0.25) -> AsyncIterator[FlowEvent]:
        """Read the events after `after_seq` one after another, and wait for more, for ever.

        The log is looked at again every `poll_interval` seconds when there is nothing new. No connection is held in
        between, so that it may be abandoned anywhere.

        Raises:
            InvalidArgument: `after_seq` is negative, or `poll_interval` is not above 0.
            UnreadableEvent: the next event does not decode; those before it were given.
            StoreUnavailable: the store cannot be reached.
            StoreError: the server is a standby.
        """
        ...
