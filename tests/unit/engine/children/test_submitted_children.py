"""In how many calls the children of a step are submitted."""

from collections.abc import Sequence
from contextlib import suppress
from uuid import UUID

from chem_persistence import FlowAppend, InMemoryEventStore, StoreUnavailable, flow
from chem_persistence.engine.children.family import Family
from chem_persistence.store.batches.flow_append import AppendAsTuple, FlowAnswer
from chem_persistence.store.clock import SystemClock
from tests.support.leases.families import Add
from tests.support.leases.staff import Number

PARENT = UUID(int=1)
ONE = flow("one", Add(1))


class Slow(InMemoryEventStore):
    """A store whose callers do not live to see more than `most` flows stored by one call."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most = most
        self.calls: list[int] = []

    async def append_many(self, appends: Sequence[FlowAppend | AppendAsTuple]) -> list[FlowAnswer]:
        self.calls.append(len(appends))
        if len(appends) > self.most:
            raise StoreUnavailable("the caller was killed")
        return await super().append_many(appends)


async def submit(store: InMemoryEventStore, count: int) -> int:
    """Submit what is missing of so many children, as a new process does; return how many were."""
    family = Family(store, PARENT, 0, SystemClock())
    missing = sorted(set(range(count)).difference(await family.states(range(count))))
    await family.submit([(item, ONE, ONE.input_artifact(Number(item))) for item in missing])
    return len(missing)


async def test_the_calls_grow_from_few_children_to_many() -> None:
    store = Slow(2_000)
    assert await submit(store, 2_000) == 2_000
    assert store.calls == [1, 50, 100, 200, 400, 500, 500, 249]
    assert await submit(store, 2_000) == 0


async def test_each_process_submits_some_children_however_short_its_life() -> None:
    store, lives = Slow(50), 0
    family = Family(store, PARENT, 0, SystemClock())
    while list(submitted := await family.states(range(500))) != list(range(500)):
        assert list(submitted) == list(range(len(submitted)))
        lives += 1
        with suppress(StoreUnavailable):
            await submit(store, 500)
    assert lives == 9
