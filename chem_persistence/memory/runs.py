"""The rows of the flows that are given to workers, as PostgreSQL keeps them in `flow_runs`.

The rules are those of the function `change_flow_run` in sql/migrations/0012_flow_runs.sql, and of
the append of migration 0017.
"""

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import assert_never
from uuid import UUID

import msgspec
from msgspec import UNSET

from chem_persistence.domain.events import (
    BranchCreated,
    FlowCancelled,
    FlowCompleted,
    FlowEvent,
    FlowInitialized,
    PropertyPreferenceAssigned,
    RetryScheduled,
    StepFailed,
    StepFinished,
    StepSignal,
    StepStarted,
    StepWaits,
    UserInteractionProvided,
    UserInteractionRequested,
    is_seal,
)
from chem_persistence.store.attribution import RUN_BY
from chem_persistence.store.leasing.hold import Hold
from chem_persistence.store.ports import Clock

__all__ = ["NEVER", "MemoryRuns", "Run", "later"]

NEVER = datetime.max.replace(tzinfo=UTC)
"""When a flow is due that is not due by itself; PostgreSQL keeps `infinity`."""


def _ends(event: FlowEvent) -> bool:
    return isinstance(event.kind, FlowCompleted | FlowCancelled) or is_seal(event.kind)


class Run(msgspec.Struct, kw_only=True):
    """The row of one flow; `due_at` of a held one is when its lease ends."""

    definition_hash: str
    due_at: datetime
    lease: UUID | None = None
    holder: UUID | None = None
    called: bool = False
    by_program: bool = False

    def hold(self, holder: UUID, token: UUID, until: datetime) -> None:
        """Record that a worker holds the flow."""
        self.lease, self.holder, self.due_at = token, holder, until

    def release(self, due_at: datetime) -> None:
        """Take the flow back from its worker, if it has one."""
        self.lease, self.holder, self.called, self.due_at = None, None, False, due_at

    def call(self, present: datetime) -> None:
        """Make the flow due now, or have its holder told."""
        self.called = self.lease is not None
        if self.lease is None:
            self.due_at = present


class _Change(msgspec.Struct):
    """What the events of one append mean for the row of their flow.

    `decisive` is the last event that decides when the flow is due; the others say whether events
    that call the flow came before it, and whether such events, or work on a step, came after it.
    """

    decisive: FlowEvent | None = None
    was_called: bool = False
    goes_on: bool = False
    is_called: bool = False

    def add(self, event: FlowEvent, *, is_leased: bool) -> None:
        if self.decisive is not None and _ends(self.decisive):
            return
        match event.kind:
            case StepSignal() if is_seal(event.kind):
                self.decisive, self.goes_on = event, False
            case StepSignal() if is_leased:
                pass
            case StepSignal() | UserInteractionProvided():
                self.is_called = self.goes_on = True
            case StepStarted() | StepFinished():
                self.goes_on = True
            case FlowInitialized(due=due) if due is UNSET:
                pass
            case (
                FlowInitialized()
                | RetryScheduled()
                | StepFailed()
                | StepWaits()
                | UserInteractionRequested()
                | FlowCompleted()
                | FlowCancelled()
            ):
                self.was_called = self.is_called
                self.decisive, self.goes_on = event, False
            case PropertyPreferenceAssigned() | BranchCreated():
                pass
            case kind:
                assert_never(kind)


class MemoryRuns:
    """The flows that are given to workers; `clock` decides when they are due."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.rows: dict[UUID, Run] = {}
        self.listeners: list[Callable[[str], None]] = []
        """Called with the definition of a flow that an append has made due."""
        self._imported: set[UUID] = set()

    def now(self) -> datetime:
        """Return the present time."""
        return self._clock.now().astimezone(UTC)

    def holds(self, flow_id: UUID, lease: UUID) -> bool:
        """Return whether a flow is held by this lease."""
        run = self.rows.get(flow_id)
        return run is not None and run.lease == lease

    def held(self, flow_id: UUID, lease: UUID) -> Run | None:
        """Return the row of a flow that is held by this lease, or None."""
        return self.rows[flow_id] if self.holds(flow_id, lease) else None

    def due(self, definitions: Iterable[str], present: datetime) -> list[tuple[UUID, Run]]:
        """Return the due flows of these definitions, the longest due first."""
        wanted = set(definitions)
        found = [
            (flow_id, run)
            for flow_id, run in self.rows.items()
            if run.definition_hash in wanted and run.due_at <= present
        ]
        return sorted(found, key=lambda item: item[1].due_at)

    def follow(
        self,
        flow_id: UUID,
        events: Sequence[FlowEvent],
        *,
        lease: UUID | None,
        hold: Hold | None = None,
    ) -> None:
        """Change a flow's row by the events of one append; tell of one that is due or submitted.

        The present is the time of the events: the clock is not read twice for one append. With
        `hold` a program runs the flow by itself, and has it from its first append on.
        """
        present = events[-1].ts.astimezone(UTC)
        if events[0].version == 0 and _is_of_program(events[0]):
            run = Run(definition_hash=_definition(events[0]), due_at=NEVER, by_program=True)
            if hold is not None and lease is not None:
                run.hold(hold.holder, lease, later(present, timedelta(seconds=hold.seconds)))
            self.rows[flow_id] = run
        self._change_row(
            flow_id, events, present, is_leased=lease is not None, is_kept=hold is not None
        )
        changed = self.rows.get(flow_id)
        is_submitted = events[0].version == 0 and not _is_of_program(events[0])
        if (
            changed is not None
            and changed.lease is None
            and (is_submitted or changed.due_at <= present)
        ):
            for told in self.listeners:
                told(changed.definition_hash)

    def _change_row(
        self,
        flow_id: UUID,
        events: Sequence[FlowEvent],
        present: datetime,
        *,
        is_leased: bool,
        is_kept: bool,
    ) -> None:
        change = _change(events, is_leased=is_leased)
        run = self.rows.get(flow_id)
        if change.decisive is None:
            if change.is_called and run is not None:
                run.call(present)
            return
        match change.decisive.kind:
            case FlowCompleted() | FlowCancelled() | StepSignal():
                self.rows.pop(flow_id, None)
                return
            case StepFailed():
                parks = False
            case _ if is_kept:
                return
            case StepWaits() | UserInteractionRequested():
                parks = True
            case _:
                parks = False
        first = events[0]
        if run is None and first.version == 0 and _is_given(first):
            self.rows[flow_id] = Run(
                definition_hash=_definition(first), due_at=_due(change, present, rebuilt=False)
            )
        elif run is not None:
            was_called = run.called or (run.lease is not None and change.was_called)
            due_at = present if parks and was_called else _due(change, present, rebuilt=False)
            run.release(due_at)

    def set_aside(self, flow_id: UUID) -> None:
        """Leave a flow that was imported to no worker, until something is said to it."""
        self._imported.add(flow_id)
        if (run := self.rows.get(flow_id)) is not None:
            run.release(NEVER)

    def remove(self, flow_id: UUID) -> None:
        """Forget a flow that is archived."""
        self.rows.pop(flow_id, None)
        self._imported.discard(flow_id)

    def rebuild(self, flow_id: UUID, events: Sequence[FlowEvent]) -> bool:
        """Compare a flow's row with all of its events; return whether it was added or changed."""
        by_program = bool(events) and _is_of_program(events[0])
        if not events or not (by_program or _is_given(events[0])):
            return False
        change = _change(events, is_leased=False)
        run = self.rows.get(flow_id)
        if not by_program if change.decisive is None else _ends(change.decisive):
            return run is not None and run.lease is None and self.rows.pop(flow_id) is run
        due_at = NEVER if flow_id in self._imported else _due(change, self.now(), rebuilt=True)
        if by_program and run is not None:
            return False
        if run is None:
            self.rows[flow_id] = Run(
                definition_hash=_definition(events[0]), due_at=due_at, by_program=by_program
            )
            return True
        if run.lease is None and due_at < run.due_at:
            run.due_at = due_at
            return True
        return False


def _due(change: _Change, present: datetime, *, rebuilt: bool) -> datetime:
    """Return when a flow is due: a time in an event counts from that event."""
    event = change.decisive
    if change.goes_on or event is None:
        return present
    wanted = _wanted(event)
    if wanted is None:
        return present if isinstance(event.kind, RetryScheduled) else NEVER
    due_at = later(present, wanted - event.ts)
    return min(wanted, due_at) if rebuilt else due_at


def later(present: datetime, after: timedelta) -> datetime:
    """Return the time after a length of time, at most the last one that a datetime can hold."""
    try:
        return present + after
    except OverflowError:
        return NEVER


def _change(events: Iterable[FlowEvent], *, is_leased: bool) -> _Change:
    change = _Change()
    for event in events:
        change.add(event, is_leased=is_leased)
    return change


def _is_given(event: FlowEvent) -> bool:
    return isinstance(event.kind, FlowInitialized) and event.kind.due is not UNSET


def _is_of_program(event: FlowEvent) -> bool:
    return isinstance(event.kind, FlowInitialized) and RUN_BY in event.metadata


def _definition(event: FlowEvent) -> str:
    return event.kind.definition_hash if isinstance(event.kind, FlowInitialized) else ""


def _wanted(event: FlowEvent) -> datetime | None:
    """Return the time that an event names for the flow to go on, if it names one."""
    match event.kind:
        case FlowInitialized(due=time) | RetryScheduled(not_before=time):
            return None if time is UNSET else time
        case StepWaits(until=time) | UserInteractionRequested(until=time):
            return None if time is UNSET else time
        case _:
            return None
