"""The children of a flow: how many are in which state, and the ones to look at first."""

from collections.abc import Iterable, Mapping, Sequence
from uuid import UUID

import msgspec

from chem_persistence.domain.events import StepWaits
from chem_persistence.store.leasing.children import ChildState, child_count, child_id

__all__ = ["ChildView", "ChildrenView", "children_views", "possible_children"]

_ORDER = (ChildState.FAILED, ChildState.CANCELLED, ChildState.RUNNING, ChildState.COMPLETED)
"""The states in the order in which children are listed."""


class ChildView(msgspec.Struct, frozen=True):
    """A child, by the item for which it was submitted."""

    item: int
    flow_id: UUID
    state: ChildState


class ChildrenView(msgspec.Struct, frozen=True):
    """The children of a step: how many were submitted, the counts by state, and some of them.

    The failed ones are listed first, then those that were cancelled, run, and are completed.
    """

    step_index: int
    step_id: str
    submitted: int
    counts: Mapping[ChildState, int]
    listed: tuple[ChildView, ...]

    @property
    def running(self) -> int:
        """How many have not ended."""
        return self.counts.get(ChildState.RUNNING, 0)

    @property
    def in_words(self) -> str:
        """The counts by state, such as `2 failed, 1 running`."""
        return ", ".join(f"{count:,} {state}" for state, count in self.counts.items())


def possible_children(flow_id: UUID, waits: Iterable[StepWaits]) -> dict[int, list[UUID]]:
    """Return the ids of all children that there may be of a flow with these waits, by step."""
    return {
        wait.step_index: [child_id(flow_id, wait.step_index, item) for item in range(count)]
        for wait in waits
        if (count := child_count(wait.data))
    }


def children_views(
    waits: Mapping[int, StepWaits],
    ids: Mapping[int, Sequence[UUID]],
    states: Mapping[UUID, ChildState],
    most: int,
) -> list[ChildrenView]:
    """Return the children by step, at most so many of each one listed."""
    return [
        _view(index, waits[index].step_id, children, states, most)
        for index, children in ids.items()
    ]


def _view(
    index: int, step_id: str, ids: Sequence[UUID], states: Mapping[UUID, ChildState], most: int
) -> ChildrenView:
    there = [
        ChildView(item, flow_id, states[flow_id])
        for item, flow_id in enumerate(ids)
        if flow_id in states
    ]
    by_state = {state: [child for child in there if child.state is state] for state in _ORDER}
    listed = [child for children in by_state.values() for child in children[:most]][:most]
    counts = {state: len(children) for state, children in by_state.items() if children}
    return ChildrenView(index, step_id, len(there), counts, tuple(listed))
