"""What a process remembers of the children of a map, by how many it asks about."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, cast
from uuid import UUID, uuid4

import pytest

from chem_persistence import InMemoryEventStore
from chem_persistence.domain.instance import StepSlot, StepStatus
from chem_persistence.engine.children.family import Family
from chem_persistence.engine.children.progress import (
    MOST_STEPS,
    Progress,
    forget_progress,
    progress_of,
)
from chem_persistence.engine.watching import Look
from chem_persistence.store.leasing.children import ChildState

RUNNING, COMPLETED = ChildState.RUNNING, ChildState.COMPLETED
FAILED, CANCELLED = ChildState.FAILED, ChildState.CANCELLED


class Children:
    """The children of a step as a log has them; it counts which were asked for."""

    def __init__(self, states: Mapping[int, ChildState] | None = None) -> None:
        self.log = dict(states or {})
        self.asked: list[list[int]] = []

    async def states(self, items: Iterable[int]) -> Mapping[int, ChildState]:
        self.asked.append(list(items))
        return {item: self.log[item] for item in self.asked[-1] if item in self.log}

    def submit(self, progress: Progress, items: Iterable[int]) -> None:
        self.log |= dict.fromkeys(items, RUNNING)
        progress.submitted(items)


async def read(progress: Progress, children: Children, count: int, at_once: int) -> list[int]:
    children.asked.clear()
    return await progress.read(cast("Family", children), count, at_once)


async def test_only_children_that_may_change_are_read_again() -> None:
    progress, children = Progress(), Children()
    absent = await read(progress, children, 6, at_once=3)
    assert (absent, children.asked) == ([0, 1, 2], [[0, 1, 2]])
    children.submit(progress, absent)
    assert await read(progress, children, 6, at_once=3) == []
    children.log[0], children.log[2] = COMPLETED, CANCELLED
    absent = await read(progress, children, 6, at_once=3)
    assert (absent, children.asked) == ([3, 4], [[0, 1, 2], [3, 4]])
    children.submit(progress, absent)
    assert await read(progress, children, 6, at_once=3) == []
    assert children.asked == [[1, 3, 4]]
    assert progress.states == {0: COMPLETED, 1: RUNNING, 2: CANCELLED, 3: RUNNING, 4: RUNNING}


async def test_a_failed_child_is_read_again_as_it_may_be_retried() -> None:
    progress, children = Progress(), Children({0: FAILED, 1: COMPLETED})
    assert await read(progress, children, 2, at_once=9) == []
    assert progress.running == 0
    children.log[0] = RUNNING
    assert await read(progress, children, 2, at_once=9) == []
    assert children.asked == [[0]]
    assert progress.running == 1


async def test_a_process_that_takes_over_finds_what_was_submitted() -> None:
    progress = Progress()
    children = Children(dict.fromkeys(range(7), COMPLETED) | {6: RUNNING, 7: RUNNING})
    assert await read(progress, children, 20, at_once=4) == [8, 9]
    assert [len(asked) for asked in children.asked] == [4, 4, 2]
    assert progress.running == 2


async def test_a_child_that_was_not_submitted_before_others_is_found() -> None:
    progress, children = Progress(), Children({0: COMPLETED, 2: RUNNING, 3: COMPLETED})
    assert await read(progress, children, 6, at_once=4) == [1]
    children.submit(progress, [1])
    children.log[1] = COMPLETED
    assert await read(progress, children, 6, at_once=4) == [4, 5]
    assert list(progress.states) == [0, 1, 2, 3]


async def test_no_more_are_submitted_than_may_run() -> None:
    progress, children = Progress(), Children(dict.fromkeys(range(5), RUNNING))
    assert await read(progress, children, 9, at_once=2) == []
    children.log |= {0: COMPLETED, 1: COMPLETED, 2: COMPLETED, 3: COMPLETED}
    assert await read(progress, children, 9, at_once=1) == []
    assert await read(progress, children, 9, at_once=2) == [5]


async def test_a_child_that_a_log_has_lost_is_submitted_again() -> None:
    progress, children = Progress(), Children()
    children.submit(progress, await read(progress, children, 3, at_once=3))
    del children.log[1]
    assert await read(progress, children, 3, at_once=3) == [1]


def look_of(store: InMemoryEventStore, flow_id: UUID) -> Look:
    slot = StepSlot(step_id="map", status=StepStatus.WAITING)
    clock: Any = datetime.now(UTC)
    return Look(flow_id, 0, slot, None, store, clock)


@pytest.mark.parametrize("others", [MOST_STEPS - 1, MOST_STEPS])
def test_the_step_that_is_not_looked_at_for_longest_is_forgotten(others: int) -> None:
    store, flow_id = InMemoryEventStore(), uuid4()
    first = progress_of(look_of(store, flow_id))
    assert progress_of(look_of(store, flow_id)) is first
    assert progress_of(look_of(InMemoryEventStore(), flow_id)) is not first
    for _ in range(others):
        progress_of(look_of(store, uuid4()))
    assert (progress_of(look_of(store, flow_id)) is first) == (others < MOST_STEPS)


def test_a_step_that_is_done_is_forgotten() -> None:
    store, flow_id = InMemoryEventStore(), uuid4()
    forget_progress(look_of(store, flow_id))
    first = progress_of(look_of(store, flow_id))
    forget_progress(look_of(store, flow_id))
    assert progress_of(look_of(store, flow_id)) is not first
