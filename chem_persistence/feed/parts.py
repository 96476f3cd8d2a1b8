"""The port of durable consumers: parts that are claimed, and pages that move their positions.

The flows of the log are divided into parts, by their id. A part has a position in the feed, and is
held by one process at a time, by the token of its claim. A page of its events is consumed in one
transaction, whose last statement moves the position if the part is still held by that token and has
not moved: the fence. So a process that was stopped, or whose lease has ended, commits nothing.
"""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime, timedelta
from typing import Protocol, TypeVar
from uuid import UUID

import msgspec

from chem_persistence.domain.events import FlowEvent
from chem_persistence.store.feed_position import FeedPosition

__all__ = [
    "ConsumerAdmin",
    "ConsumerPart",
    "ConsumerParts",
    "ConsumerStatus",
    "HeldPart",
    "ParkedFlow",
    "PartLost",
    "PartPage",
    "PartPosition",
]

Transaction = TypeVar("Transaction")


class PartLost(Exception):  # a caller never sees it
    """The part is not held by this token any more, or its position has moved."""


class PartPosition(msgspec.Struct, frozen=True):
    """The last event that a part has passed; its `flow_id` and `link` are None at the beginning."""

    seq: int
    flow_id: UUID | None = None
    link: bytes | None = None


class HeldPart(msgspec.Struct, frozen=True, kw_only=True):
    """A part that this process holds by a token.

    `tries` counts the claims since the position moved, this one included; `page` is how many
    events the next transaction may have; `error` is the last failure. The part does not pass
    `until` while the number of parts is being changed.
    """

    name: str
    token: UUID
    part: int
    parts: int
    at: PartPosition
    until: int | None
    tries: int
    page: int
    error: str | None


class PartPage(Protocol):
    """The next events of a part, or of a flow of it that was released; there may be none."""

    @property
    def is_empty(self) -> bool:
        """Whether it has no events for the handler; the position moves all the same."""
        ...

    @property
    def flow_id(self) -> UUID:
        """The flow of its first event."""
        ...

    @property
    def then(self) -> HeldPart:
        """The part as it is once the page is consumed."""
        ...

    def events(self) -> Sequence[FlowEvent]:
        """Decode the events.

        Raises:
            UnreadableEvent: one does not decode.
        """
        ...


Page = TypeVar("Page", bound=PartPage)


class ConsumerParts(Protocol[Page, Transaction]):
    """Claims the parts of a consumer, and moves their positions.

    Every method raises:
        StoreUnavailable, StoreError: the store cannot be reached, or refused.
    """

    async def feed_end(self) -> int:
        """Return the `seq` up to which the log is complete and stays so."""
        ...

    async def claim(self, end: int, lease: timedelta) -> HeldPart | None:
        """Claim the part that is due longest of those that have something to do before `end`.

        Raises:
            HistoryLost: the event of the part's position is not in the log any more.
        """
        ...

    async def find(self, part: HeldPart) -> HeldPart | None:
        """Return the part as it is now; None if it is not held by its token any more."""
        ...

    async def renew(self, part: HeldPart, lease: timedelta) -> bool:
        """Renew the lease; return False if the part is not held by its token any more."""
        ...

    async def release(
        self,
        part: HeldPart,
        *,
        due_in: timedelta,
        tries: int,
        passed: int | None = None,
        error: str | None = None,
    ) -> bool:
        """Release a part; return False if it is not held, or has moved since it was read.

        `passed` is the end of the feed up to which nothing of it follows.
        """
        ...

    async def next_page(self, part: HeldPart, end: int, most: int) -> Page | None:
        """Return the next events of a part up to `end`, at most `most`; None at the end.

        If a flow of the part was released, they are of that flow.
        """
        ...

    def consuming(
        self, part: HeldPart, page: Page, lease: timedelta
    ) -> AbstractAsyncContextManager[Transaction]:
        """Open the transaction of a page, which moves the position at its end, and commit it.

        Raises:
            PartLost: the part is not held any more, or has moved; nothing was stored.
            StoreUnavailable: it failed for a reason that passes by itself, or its commit has an
                unknown outcome.
        """
        ...

    def is_lost(self, transaction: Transaction) -> bool:
        """Return whether the connection of a transaction is closed."""
        ...

    async def pass_by(self, part: HeldPart, page: Page, lease: timedelta) -> None:
        """Move the position behind a page without events; raises what `consuming` raises."""
        ...

    async def park(self, part: HeldPart, page: Page, error: str, lease: timedelta) -> HeldPart:
        """Park the flow of the page's first event, and move behind that event.

        Return the part as it is then. Raises what `consuming` raises.
        """
        ...

    async def finish_resize(self) -> bool:
        """Change the number of parts, if that is wanted and all stand where they are to stop."""
        ...

    async def count_behind(self, seq: int) -> int:
        """Count the parts that have not passed a `seq`, and the released flows."""
        ...


class ParkedFlow(msgspec.Struct, frozen=True, kw_only=True):
    """A flow that a consumer has put aside, with everything that follows its first failed event.

    `seq` and `event_id` are of that event. A flow that is released is consumed next.
    """

    flow_id: UUID
    seq: int
    event_id: UUID
    error: str
    parked_at: datetime
    is_released: bool


class ConsumerPart(msgspec.Struct, frozen=True, kw_only=True):
    """One part of a consumer.

    `lag` is by how many numbers it is behind the end of the feed; some of them may have no event.
    `holder` is the process that works on it, `tries` the number of claims since it moved.
    """

    part: int
    seq: int
    lag: int
    holder: str | None
    tries: int
    error: str | None
    moved_at: datetime
    parked: int


class ConsumerStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A durable consumer: its parts, and the flows that it has parked.

    `next_parts` is the number of parts that was asked for and is not reached yet.
    """

    name: str
    parts: list[ConsumerPart]
    next_parts: int | None
    parked: list[ParkedFlow]

    @property
    def lag(self) -> int:
        """By how many numbers the part that is furthest behind is behind the end of the feed."""
        return max(part.lag for part in self.parts)


class ConsumerAdmin(Protocol):
    """What is done with a consumer beside consuming; see `Consumer`."""

    async def create(self, parts: int, at: FeedPosition) -> None:
        """Create the consumer, unless it exists."""
        ...

    async def exists(self) -> bool:
        """Return whether the consumer was created."""
        ...

    async def status(self) -> ConsumerStatus | None:
        """Return the parts and parked flows; None if there is no such consumer."""
        ...

    async def release_flow(self, flow_id: UUID) -> bool:
        """Release a parked flow; return False if it is not parked."""
        ...

    async def reset(self, to: FeedPosition) -> bool:
        """Set all parts to a position; return False if there is no such consumer."""
        ...

    async def resize(self, parts: int) -> bool:
        """Begin to change the number of parts; return False if there is no such consumer."""
        ...

    async def remove(self) -> bool:
        """Delete the consumer; return False if there is none."""
        ...
