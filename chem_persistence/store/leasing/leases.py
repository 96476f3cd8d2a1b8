"""The port of leases: which worker runs which flow, and the store through which it appends.

A flow that was given to workers (`FlowInitialized.due`) has a row until it is completed or
cancelled. The row says when the flow is due, and who holds it: the claim's token is its lease. A
held flow is due when its lease ends, so a flow whose worker died is claimed like any other.

The row follows the flow's events, in the transaction that stores them:

- `FlowInitialized` with `due`: there is a row, due then; of `ProgramEventStore.of_program`, whose
  metadata has `RUN_BY`: there is one that is held, and the next two leave it so.
- `RetryScheduled`: released, due at `not_before`, or now.
- `StepFailed` without a `RetryScheduled` after it: released, and not due by itself.
- `StepWaits` and `UserInteractionRequested`: released, due at `until`, or not by itself; due now if
  the flow was called while it was held.
- `UserInteractionProvided`, and a `StepSignal` of an append without a lease: the flow is called.
  That makes it due now; if it is held, its holder is told by the next renewal, and whatever
  releases the flow to wait makes it due now.
- `FlowCompleted` and `FlowCancelled`: there is no row any more.

A flow that was imported has a row as well, which is due when something is said to the flow, and not
by itself, whatever its events say: it may still run where it comes from.

The clock of the database decides when a flow is due and when a lease ends. A time in an event is
taken as a length of time after the event, so a writer whose clock is wrong does no harm.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from enum import StrEnum
from typing import Protocol, runtime_checkable
from uuid import UUID

import msgspec

from chem_persistence.errors import InvalidArgument
from chem_persistence.store.ports import EventStore

__all__ = [
    "Claim",
    "FlowCounter",
    "FlowCounts",
    "FlowRunRow",
    "HintingLeases",
    "LeaseReader",
    "Leases",
    "LeasingEventStore",
    "ListeningLeases",
    "ProgramEventStore",
    "Renewal",
    "SeparableLeases",
    "WorkerRegister",
    "check_duration",
    "check_worker",
]

LONGEST = timedelta(days=36_500)
"""The longest lease, and the longest time after which a flow that is given back is due."""


class Claim(msgspec.Struct, frozen=True, gc=False):
    """A flow that a worker holds, and the token of the lease: `store.leased` takes the two."""

    flow_id: UUID
    token: UUID
    definition_hash: str


class FlowCounts(msgspec.Struct, frozen=True, gc=False):
    """How many flows of a definition are due, and how many wait and are held by no worker."""

    due: int = 0
    waiting: int = 0


class FlowRunRow(msgspec.Struct, frozen=True, gc=False):
    """The row of a flow: after how long it is due, or its lease ends, and who holds it, if anybody.

    With `due_in` None the flow is not due by itself.
    """

    due_in: timedelta | None
    token: UUID | None
    holder: UUID | None


class Renewal(StrEnum):
    """What a renewal found of a flow."""

    RENEWED = "renewed"
    """The lease lasts for the new duration, which begins when the database renewed it."""

    CALLED = "renewed, and called"
    """Renewed; and something happened to the flow since it was claimed: read its new events."""

    SKIPPED = "not renewed"
    """Another transaction has locked the row: the lease is held, and ends when it did before."""

    LOST = "lost"
    """The flow is not held by this lease any more: drop it, and append nothing."""


class Leases(Protocol):
    """Claims flows for workers, one worker a flow, and takes them back.

    Every method raises:
        StoreUnavailable, StoreError: the store cannot be reached, or refused.
    """

    async def claim(
        self, definitions: Collection[str], worker: UUID, limit: int, duration: timedelta
    ) -> list[Claim]:
        """Claim due flows of these definitions, at most `limit`, for `duration` from now on.

        The definitions are served alike, and of each the flows that are due longest. Fewer than
        `limit` may be returned although more are due: claim again. If the reply is lost, what was
        claimed is returned by the retry, or due again when the lease ends.

        Raises:
            InvalidArgument: the limit or the duration is negative, the duration is longer than a
                century, or the worker's id is nil.
        """
        ...

    async def take(self, flow_id: UUID, worker: UUID, duration: timedelta) -> Claim | None:
        """Claim one flow, also before it is due.

        Return None if another worker holds it, and its lease has not ended; if it was never given
        to workers; or if it is completed or cancelled.

        Raises:
            InvalidArgument: the duration is negative, or an id is nil.
        """
        ...

    async def renew(
        self, held: Iterable[tuple[UUID, UUID]], duration: timedelta
    ) -> Mapping[UUID, Renewal]:
        """Renew leases, given as flow and token, and return what was found of each flow.

        A lease that has ended is renewed as long as nobody has claimed the flow. No row is waited
        for.

        Raises:
            InvalidArgument: the duration is negative.
        """
        ...

    async def give_back(self, flow_id: UUID, token: UUID, due_in: timedelta | None) -> bool:
        """Release a flow with which there is nothing to do for now; no event is appended.

        It is due after `due_in`, or not by itself with None; but now if it was called while it was
        held. Return False, and change nothing, if it is not held by this lease.

        Raises:
            InvalidArgument: `due_in` is negative.
        """
        ...

    async def leave(self, flow_id: UUID, token: UUID) -> bool:
        """Release a flow that a program runs by itself: it is then not due by itself.

        That is so also if it was called: the program looks at it when it is started again. Return
        False, and change nothing, if the flow is not held by this lease.
        """
        ...

    async def release(self, held: Iterable[tuple[UUID, UUID]]) -> list[UUID]:
        """Release flows, given as flow and token, so that they are due now; return those released.

        No row is waited for: one that another transaction has locked is due when its lease ends.
        """
        ...

    async def call(self, flow_ids: Iterable[UUID]) -> list[UUID]:
        """Call flows to whose log nothing was appended, such as the parents of finished children.

        Return those that have a row and were called. No row is waited for, so a call may be
        missed, so a caller that waits for one also waits for a time.
        """
        ...

    async def rebuild(self) -> int:
        """Make the rows what the log implies; return how many were added or made due earlier.

        A flow without a row gets one, if it was given to workers and is not over. Appends and
        claims wait while rows are added. Rows that are held stay as they are, and no flow becomes
        due later than it was.
        """
        ...


@runtime_checkable
class LeaseReader(Protocol):
    """Reads who holds a flow.

    Every method raises:
        StoreUnavailable, StoreError: the store cannot be reached, or refused.
    """

    async def read_run(self, flow_id: UUID) -> FlowRunRow | None:
        """Return the row of a flow, or None if it was never given to workers, or is over."""
        ...


@runtime_checkable
class SeparableLeases(Protocol):
    """Leases of which another thread can have its own, so that it renews while a step blocks."""

    def separate(self) -> AbstractAsyncContextManager[Leases] | None:
        """Return leases of the same flows for the event loop that opens them, in any thread.

        They share no connection with these. Return None if nothing is known of how to connect.
        """
        ...


@runtime_checkable
class HintingLeases(Protocol):
    """Leases that tell when flows become due, so that a worker need not wait for its next look."""

    def hear(self, told: Callable[[str], None]) -> AbstractAsyncContextManager[None]:
        """Call `told` with the definition of flows that become due, for the length of a block.

        It is called in the event loop that opens the block, with `ANY_DEFINITION` where the
        definition is not known. Calls may be missed, and may come although no flow is due.
        """
        ...

    async def hint(self, definitions: Collection[str]) -> None:
        """Notify all listeners that flows of these definitions are due; a failure is not raised."""
        ...


@runtime_checkable
class ListeningLeases(HintingLeases, Protocol):
    """Leases that know whether hints are heard, and when a flow will be due without one.

    Every method raises:
        StoreUnavailable, StoreError: the store cannot be reached, or refused.
    """

    @property
    def hears(self) -> bool:
        """Whether hints are heard at present, in a block of `hear`; some may be missed even so.

        When it becomes false within the block, `told` is called with `ANY_DEFINITION`.
        """
        ...

    async def next_due(self, definitions: Collection[str], within: timedelta) -> timedelta | None:
        """Return after how long the next flow of these definitions is due, or its lease ends.

        Negative if it is due already, and could not be claimed since another transaction has locked
        it, for example. None if no flow is due `within` this time.

        Raises:
            InvalidArgument: `within` is negative, or longer than a century.
        """
        ...


@runtime_checkable
class WorkerRegister(Protocol):
    """Keeps the workers that run, for people; nothing is decided by it.

    Every method raises:
        StoreUnavailable, StoreError: the store cannot be reached, or refused.
    """

    async def announce(self, worker: UUID, name: str, definitions: Collection[str]) -> None:
        """Store that a worker is alive, and which definitions it serves."""
        ...

    async def withdraw(self, worker: UUID) -> None:
        """Remove a worker that stops."""
        ...


@runtime_checkable
class FlowCounter(Protocol):
    """Counts the flows that want a worker, or will; a worker reports that to the metrics.

    Every method raises:
        StoreUnavailable, StoreError: the store cannot be reached, or refused.
    """

    async def count_flows(self, definitions: Collection[str]) -> Mapping[str, FlowCounts]:
        """Return the counts of each of these definitions.

        The time that this takes grows with the number of their flows that are not over.
        """
        ...


@runtime_checkable
class LeasingEventStore(EventStore, Protocol):
    """An event store that appends with leases."""

    @property
    def leases(self) -> Leases:
        """The leases of the flows of this store."""
        ...

    def leased(self, flow_id: UUID, token: UUID) -> EventStore:
        """Return this store as the holder of a flow appends to it.

        An append is stored only if the flow is held by this lease. Other flows cannot be appended
        to; all of them can be read. The first append of a flow cannot be made with a lease.

        Its `append_kinds` raises what that of `EventStore` raises, and:
            StaleLease: the flow is not held by this lease any more.
            InvalidArgument: the flow is not the one of this lease.
        """
        ...


@runtime_checkable
class ProgramEventStore(LeasingEventStore, Protocol):
    """An event store on which a program runs flows by itself, each under a lease."""

    def of_program(self, claim: Claim, holder: UUID, duration: timedelta) -> EventStore:
        """Return this store as a program appends to a flow that it runs by itself.

        The append of version 0 takes the lease of the claim for `duration`, and the metadata of its
        first event say that a program runs the flow (`RUN_BY`); one that finds a flow raises
        `ConcurrencyConflict`.
        The others are stored only if the lease holds; see `LeasingEventStore.leased`. The flow
        stays held while a step waits or is to be tried again, until the program leaves it.
        """
        ...


def check_duration(name: str, duration: timedelta | None) -> None:
    """Check a length of time that is given to a call; None is allowed.

    Raises:
        InvalidArgument: it is negative, or longer than `LONGEST`.
    """
    if duration is not None and not timedelta(0) <= duration <= LONGEST:
        raise InvalidArgument(name, f"must be 0 to {LONGEST.days} days")


def check_worker(worker: UUID) -> None:
    """Check that a value can name a worker.

    Raises:
        InvalidArgument: it is the nil UUID (RFC 9562, section 5.9).
    """
    if worker.int == 0:
        raise InvalidArgument("worker", "must not be the nil UUID")
