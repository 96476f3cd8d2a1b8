"""The children of flows: how they are named, what became of them, and what reads that.

A step may run other flows: its children. The child for the item `n` of a step has an id that
follows from the parent's id, the step's index and `n`, so that two processes which submit it make
the same submission. A child names its parent in its first event.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Any, Protocol, runtime_checkable
from uuid import UUID, uuid5

from msgspec import UNSET

from chem_persistence.domain.events import (
    CANCEL,
    BranchCreated,
    FlowCancelled,
    FlowCompleted,
    FlowEvent,
    FlowInitialized,
    FlowParent,
    PropertyPreferenceAssigned,
    StepFailed,
    StepSignal,
    event_type,
)

__all__ = [
    "CHILDREN",
    "ChildReader",
    "ChildState",
    "child_count",
    "child_id",
    "is_given_up",
    "parent_of",
    "state_after",
    "state_of_last",
]

CHILDREN = "children"
"""The key under which a step that waits for children keeps how many there may be (`StepWaits`), and
the parameter of its definition that has the hashes of their definitions."""


class ChildState(StrEnum):
    """What became of a flow that was submitted as a child."""

    RUNNING = "running"
    """It has not ended: it is due, runs, waits, or its retry is scheduled."""

    FAILED = "failed"
    """A step failed, and no retry is scheduled."""

    COMPLETED = "completed"
    CANCELLED = "cancelled"


_ASIDE = (StepSignal, PropertyPreferenceAssigned, BranchCreated)
"""Facts that change nothing about whether a flow has ended; the queries leave them out."""

_TYPES_ASIDE = frozenset(event_type(fact) for fact in _ASIDE)

_STATES: Mapping[str, ChildState] = {
    event_type(FlowCompleted): ChildState.COMPLETED,
    event_type(FlowCancelled): ChildState.CANCELLED,
    event_type(StepFailed): ChildState.FAILED,
}


@runtime_checkable
class ChildReader(Protocol):
    """Reads what a parent needs to know of many children in one query.

    Every method raises:
        StoreUnavailable, StoreError: the store cannot be reached, or refused.
    """

    async def child_states(self, flow_ids: Sequence[UUID]) -> Mapping[UUID, ChildState]:
        """Return the states of those flows that have events."""
        ...

    async def child_outputs(self, flow_ids: Sequence[UUID]) -> Mapping[UUID, str]:
        """Return the hash of the output of the last step that finished, of each flow with one."""
        ...

    async def cancelled_flows(self, flow_ids: Collection[UUID]) -> set[UUID]:
        """Return those flows that are cancelled, or for which somebody has asked that."""
        ...


def child_id(parent: UUID, step_index: int, item: int) -> UUID:
    """Return the id of a step's child (a UUIDv5, RFC 9562, section 5.5)."""
    return uuid5(parent, f"{step_index}/{item}")


def child_count(data: Any) -> int:
    """Return how many children a step may have that waits with this memory; 0 if it has none."""
    count = data.get(CHILDREN) if isinstance(data, Mapping) else None
    return count if isinstance(count, int) else 0


def parent_of(events: Sequence[FlowEvent]) -> FlowParent | None:
    """Return the parent that the first of a flow's events names, or None."""
    if not events or not isinstance(first := events[0].kind, FlowInitialized):
        return None
    return None if first.parent is UNSET else first.parent


def state_of_last(last_event_type: str) -> ChildState:
    """Return the state of a flow whose last event, but for those aside, has this type."""
    return _STATES.get(last_event_type, ChildState.RUNNING)


def state_after(event_types: Iterable[str]) -> ChildState:
    """Return the state of a flow with events of these types, the newest first."""
    last = next((each for each in event_types if each not in _TYPES_ASIDE), "")
    return state_of_last(last)


def is_given_up(events: Iterable[FlowEvent]) -> bool:
    """Return whether a flow with these events is cancelled, or somebody has asked that."""
    return any(
        isinstance(event.kind, FlowCancelled)
        or (isinstance(event.kind, StepSignal) and event.kind.signal == CANCEL)
        for event in events
    )
