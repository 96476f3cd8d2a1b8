"""What the limits over all workers must do on every store: all or none, in turn, and never leak."""

import asyncio
import random
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

import msgspec
import pytest

from chem_persistence import (
    FlowCancelled,
    FlowCompleted,
    FlowEngine,
    FlowEventKind,
    InMemoryFlowRepository,
    InvalidArgument,
    RetryPolicy,
    RetryScheduled,
    StepFinished,
    StepStarted,
    StepWaits,
)
from chem_persistence.store.leasing.slots import (
    FIRST_PAUSE,
    ResourceLimit,
    Slots,
    Taken,
    slots_of,
)
from tests.support.leases.desk import HOUR, Desk, failed, memory_desk, postgres_desk
from tests.support.leases.staff import Act, Acts, chain, client_of, submit, trace, until, working

if TYPE_CHECKING:
    import asyncpg

STARTED = StepStarted(0, "acquire")
FINISHED = StepFinished(0, "acquire", (), "f" * 64)
RETRY = RetryScheduled("acquire", 1, "again")
ENDS: list[list[FlowEventKind]] = [
    [STARTED, FINISHED],
    [STARTED, failed()],
    [FlowCompleted("e" * 64)],
    [FlowCancelled("no")],
]
KEEPS: list[list[FlowEventKind]] = [
    [STARTED],
    [STARTED, StepWaits(0, "acquire", None)],
    [STARTED, failed(), RETRY],
    [STARTED, failed(), RETRY, STARTED],
]


class Named:
    """The slots of resources whose names no other test has: a Citus cluster has one database."""

    def __init__(self, slots: Slots, mark: str) -> None:
        self._slots = slots
        self._mark = mark

    def name(self, resource: str) -> str:
        return resource + self._mark

    async def take(self, flow_id: UUID, index: int, uses: Mapping[str, int]) -> Taken:
        taken = await self._slots.take(flow_id, index, self._named(uses))
        short_of = taken.short_of and taken.short_of.removesuffix(self._mark)
        return msgspec.structs.replace(taken, short_of=short_of)

    async def give_back(self, flow_id: UUID, index: int, token: UUID) -> None:
        await self._slots.give_back(flow_id, index, token)

    async def call_next(self, freed: Mapping[str, int]) -> list[UUID]:
        return await self._slots.call_next(self._named(freed))

    async def set_limit(self, resource: str, most: int | None) -> None:
        await self._slots.set_limit(self.name(resource), most)

    async def limits(self) -> list[ResourceLimit]:
        return [
            msgspec.structs.replace(limit, resource=limit.resource.removesuffix(self._mark))
            for limit in await self._slots.limits()
            if limit.resource.endswith(self._mark)
        ]

    def _named(self, amounts: Mapping[str, int]) -> dict[str, int]:
        return {self.name(resource): amount for resource, amount in amounts.items()}


_marks = [""]


@pytest.fixture(autouse=True)
def mark() -> None:
    """Name the resources of each test differently."""
    _marks[:] = [f" {uuid4().hex[:8]}"]


def slots(desk: Desk) -> Named:
    found = slots_of(desk.leases)
    assert found is not None
    return Named(found, _marks[0])


async def took(desk: Desk, flow_id: UUID, index: int = 0, **uses: int) -> bool:
    """Return whether a step got what it uses."""
    taken = await slots(desk).take(flow_id, index, uses)
    assert taken.is_limited
    assert (taken.pause is None) == (taken.short_of is None)
    return taken.pause is None


async def limit_of(desk: Desk, resource: str) -> ResourceLimit:
    (found,) = [each for each in await slots(desk).limits() if each.resource == resource]
    return found


# ---- who gets the slots


async def test_no_more_flows_than_there_are_slots_use_a_resource(desk: Desk) -> None:
    await slots(desk).set_limit("gpu", 2)
    flow_ids = [await desk.submit() for _ in range(3)]
    assert [await took(desk, flow_id, gpu=1) for flow_id in flow_ids] == [True, True, False]
    limit = await limit_of(desk, "gpu")
    assert (limit.most, limit.used, limit.waiting, limit.impossible) == (2, 2, 1, 0)
    assert {each.flow_id for each in limit.users} == set(flow_ids[:2])


async def test_what_is_not_limited_is_not_counted(desk: Desk) -> None:
    taken = await slots(desk).take(await desk.submit(), 0, {"gpu": 9})
    assert not taken.is_limited
    assert taken.pause is None
    assert await slots(desk).limits() == []


async def test_a_step_takes_all_that_it_uses_or_nothing(desk: Desk) -> None:
    await slots(desk).set_limit("gpu", 1)
    await slots(desk).set_limit("license", 3)
    first, second, third = [await desk.submit() for _ in range(3)]
    assert await took(desk, first, gpu=1)
    assert not await took(desk, second, gpu=1, license=2)
    assert (await limit_of(desk, "license")).used == 0
    await desk.store.append_kinds(first, [STARTED, FINISHED])
    assert await took(desk, second, gpu=1, license=2)
    assert not await took(desk, third, license=2)
    assert (await limit_of(desk, "license")).used == 2


async def test_a_slot_is_free_when_its_step_has_an_outcome_or_its_flow_is_over(
    desk: Desk,
) -> None:
    await slots(desk).set_limit("gpu", 1)
    user = await desk.submit()
    assert await took(desk, user, gpu=1)
    for end in ENDS:
        following = await desk.submit()
        assert not await took(desk, following, gpu=1)
        await desk.store.append_kinds(user, end)
        assert (await limit_of(desk, "gpu")).used == 0
        assert await took(desk, following, gpu=1)
        user = following


async def test_a_step_that_is_not_done_keeps_its_slot_whoever_holds_the_flow(
    desk: Desk,
) -> None:
    await slots(desk).set_limit("gpu", len(KEEPS))
    other = await desk.submit()
    for facts in KEEPS:
        flow_id = await desk.submit()
        assert await took(desk, flow_id, gpu=1)
        await desk.store.append_kinds(flow_id, facts)
        assert await took(desk, flow_id, gpu=1), "a take-over finds its own"
    assert not await took(desk, other, gpu=1)
    assert (await limit_of(desk, "gpu")).used == len(KEEPS)


async def test_a_failed_step_that_is_tried_again_may_find_its_slot_taken(desk: Desk) -> None:
    await slots(desk).set_limit("gpu", 1)
    first, second = await desk.submit(), await desk.submit()
    assert await took(desk, first, gpu=1)
    await desk.store.append_kinds(first, [STARTED, failed()])
    assert await took(desk, second, gpu=1)
    await desk.store.append_kinds(first, [RETRY])
    assert not await took(desk, first, gpu=1)


async def test_a_flow_that_was_not_given_to_workers_keeps_no_slot(desk: Desk) -> None:
    await slots(desk).set_limit("gpu", 1)
    assert await took(desk, uuid4(), gpu=1)
    assert await took(desk, await desk.submit(), gpu=1)


async def test_a_step_that_uses_another_amount_now_gets_that(desk: Desk) -> None:
    await slots(desk).set_limit("gpu", 4)
    first, second = await desk.submit(), await desk.submit()
    assert await took(desk, first, gpu=2)
    assert await took(desk, first, gpu=3)
    assert not await took(desk, second, gpu=2)
    assert await took(desk, first, gpu=1)
    assert (await limit_of(desk, "gpu")).used == 1
    assert await took(desk, second, gpu=2)
    assert not await took(desk, first, gpu=4), "all or none: it keeps no part"
    assert (await limit_of(desk, "gpu")).used == 2


async def test_slots_of_a_step_that_was_not_begun_are_given_back_by_the_holder(desk: Desk) -> None:
    await slots(desk).set_limit("gpu", 1)
    first, second = await desk.submit(), await desk.submit()
    token = await desk.take(first)
    assert await took(desk, first, gpu=1)
    await slots(desk).give_back(first, 0, uuid4())
    assert not await took(desk, second, gpu=1), "not by a worker that lost the lease"
    await slots(desk).give_back(first, 0, token)
    assert await took(desk, second, gpu=1)


# ---- whose turn it is


async def test_a_step_that_needs_much_is_not_overtaken(desk: Desk) -> None:
    await slots(desk).set_limit("gpu", 3)
    running = [await desk.submit() for _ in range(3)]
    for flow_id in running:
        assert await took(desk, flow_id, gpu=1)
    much, little = await desk.submit(), await desk.submit()
    assert not await took(desk, much, gpu=3)
    for flow_id in running:
        await desk.store.append_kinds(flow_id, [STARTED, FINISHED])
        assert not await took(desk, little, gpu=1)
    assert await took(desk, much, gpu=3)
    await desk.store.append_kinds(much, [STARTED, FINISHED])
    assert await took(desk, little, gpu=1)


async def test_a_cancelled_flow_is_not_waited_for(desk: Desk) -> None:
    await slots(desk).set_limit("gpu", 2)
    first, much, little = [await desk.submit() for _ in range(3)]
    assert await took(desk, first, gpu=1)
    assert not await took(desk, much, gpu=2)
    assert not await took(desk, little, gpu=1)
    await desk.store.append_kind(much, FlowCancelled("no"))
    assert await took(desk, little, gpu=1)
    assert (await limit_of(desk, "gpu")).waiting == 0


async def test_a_step_that_uses_more_than_there_is_waits_alone(desk: Desk) -> None:
    await slots(desk).set_limit("gpu", 2)
    much, little = await desk.submit(), await desk.submit()
    assert not await took(desk, much, gpu=3)
    assert await took(desk, little, gpu=1)
    limit = await limit_of(desk, "gpu")
    assert (limit.waiting, limit.impossible) == (1, 1)
    await slots(desk).set_limit("gpu", 4)
    assert await took(desk, much, gpu=3)


async def test_the_pause_grows_with_the_flows_that_wait(desk: Desk) -> None:
    await slots(desk).set_limit("gpu", 1)
    assert await took(desk, await desk.submit(), gpu=1)
    flow_ids = [await desk.submit() for _ in range(8)]
    taken = [await slots(desk).take(flow_id, 0, {"gpu": 1}) for flow_id in flow_ids]
    assert taken[0].pause == FIRST_PAUSE
    assert taken[-1].pause == timedelta(milliseconds=700)
    assert {each.short_of for each in taken} == {"gpu"}


async def test_the_flows_are_called_that_may_have_what_was_freed(desk: Desk) -> None:
    await slots(desk).set_limit("gpu", 2)
    running = await desk.submit()
    assert await took(desk, running, gpu=2)
    flow_ids = [await desk.submit() for _ in range(4)]
    for flow_id in flow_ids:
        assert not await took(desk, flow_id, gpu=1)
        await desk.leases.give_back(flow_id, await desk.take(flow_id), HOUR)
    await desk.store.append_kinds(running, [STARTED, FINISHED])
    assert set(await slots(desk).call_next({"gpu": 2})) == set(flow_ids[:2])
    assert [(await desk.seen(flow_id)).due for flow_id in flow_ids] == [
        "now",
        "now",
        "in 1 h",
        "in 1 h",
    ]


# ---- the limits


async def test_those_who_use_more_than_a_lowered_limit_end_as_they_would(desk: Desk) -> None:
    await slots(desk).set_limit("gpu", 3)
    running = [await desk.submit() for _ in range(3)]
    for flow_id in running:
        assert await took(desk, flow_id, gpu=1)
    await slots(desk).set_limit("gpu", 1)
    limit, waiting = await limit_of(desk, "gpu"), await desk.submit()
    assert (limit.most, limit.used) == (1, 3)
    assert await took(desk, running[2], gpu=1), "a take-over finds its own"
    for flow_id in running:
        assert not await took(desk, waiting, gpu=1)
        await desk.store.append_kinds(flow_id, [STARTED, FINISHED])
    assert await took(desk, waiting, gpu=1)
    assert not await took(desk, await desk.submit(), gpu=1)


async def test_a_limit_can_be_raised_again_and_taken_away(desk: Desk) -> None:
    await slots(desk).set_limit("gpu", 2)
    running = [await desk.submit() for _ in range(2)]
    for flow_id in running:
        assert await took(desk, flow_id, gpu=1)
    await slots(desk).set_limit("gpu", 1)
    await slots(desk).set_limit("gpu", 3)
    limit = await limit_of(desk, "gpu")
    assert (limit.most, limit.used) == (3, 2)
    assert not await took(desk, await desk.submit(), gpu=2)
    await slots(desk).set_limit("gpu", None)
    await slots(desk).set_limit("gpu", None)
    assert await slots(desk).limits() == []
    assert not (await slots(desk).take(await desk.submit(), 0, {"gpu": 9})).is_limited


async def test_what_is_no_limit_is_refused(desk: Desk) -> None:
    names = [("", 1), ("a\0b", 1), ("x" * 201, 1), ("gpu", 0), ("gpu", 10_001)]
    for resource, most in names:
        with pytest.raises(InvalidArgument):
            await client_of(desk).set_limit(resource, most)
    with pytest.raises(InvalidArgument, match="uses: must be at least 1 of 'gpu"):
        await slots(desk).take(await desk.submit(), 0, {"gpu": 0})


# ---- workers


async def test_workers_share_the_limits_of_their_store(desk: Desk) -> None:
    acts = Acts()
    gpu = slots(desk).name("gpu")
    flow = chain(Act(acts, "one", uses={gpu: 1}), Act(acts, "two", uses={gpu: 2}))
    await client_of(desk).set_limit(gpu, 2)
    acts.held = frozenset({"one"})
    async with AsyncExitStack() as stack:
        for _ in range(2):
            await stack.enter_async_context(working(desk, [flow]))
        flow_ids = [await submit(desk, flow, n) for n in range(5)]
        while acts.running < 2:
            await asyncio.sleep(0.005)
        while (await limit_of(desk, "gpu")).waiting < 3:
            await asyncio.sleep(0.005)
        assert sorted([await trace(desk, each) for each in flow_ids]) == ["I", "I", "I", "IS", "IS"]
        acts.held = frozenset()
        acts.may_end.set()
        for flow_id in flow_ids:
            await until(desk, flow_id, lambda events: events[-1].variant == "C")
    assert {await trace(desk, flow_id) for flow_id in flow_ids} == {"ISFSFC"}
    assert acts.most_at_once <= 2
    limit = await limit_of(desk, "gpu")
    assert (limit.used, limit.waiting) == (0, 0)


async def test_the_end_of_a_step_calls_the_flow_that_waits_for_its_slot(desk: Desk) -> None:
    acts, gpu = Acts(), slots(desk).name("gpu")
    flow = chain(Act(acts, uses={gpu: 1}))
    acts.held = frozenset({"act"})
    await client_of(desk).set_limit(gpu, 1)
    async with working(desk, [flow]):
        first = await submit(desk, flow)
        await acts.begun.wait()
        waiting = await submit(desk, flow, due_in=HOUR)
        token = await desk.take(waiting)
        assert not await took(desk, waiting, gpu=1)
        await desk.leases.give_back(waiting, token, HOUR)
        acts.may_end.set()
        for flow_id in (first, waiting):
            await until(desk, flow_id, lambda events: events[-1].variant == "C")


async def test_a_step_keeps_its_slots_until_its_retry_has_ended(desk: Desk) -> None:
    acts = Acts()
    gpu = slots(desk).name("gpu")
    flow = chain(Act(acts, uses={gpu: 1}, retry=RetryPolicy(attempts=2, first=HOUR)))
    acts.failures = [ValueError("no")]
    await client_of(desk).set_limit(gpu, 1)
    flow_id = await submit(desk, flow)
    async with working(desk, [flow]):
        await until(desk, flow_id, lambda events: events[-1].variant == "R")
        assert (await limit_of(desk, "gpu")).used == 1
        await desk.make_due(flow_id)
        await until(desk, flow_id, lambda events: events[-1].variant == "C")
    assert (await limit_of(desk, "gpu")).used == 0


async def test_a_program_without_workers_waits_for_the_slots(desk: Desk) -> None:
    acts, other = Acts(), await desk.submit()
    gpu = slots(desk).name("gpu")
    flow = chain(Act(acts, uses={gpu: 1}))
    await client_of(desk).set_limit(gpu, 1)
    assert await took(desk, other, gpu=1)
    flow_id = await submit(desk, flow)
    engine = FlowEngine(desk.store, InMemoryFlowRepository(desk.store), flow)
    running = asyncio.create_task(engine.run_to_end(flow_id))
    while (await limit_of(desk, "gpu")).waiting == 0:
        await asyncio.sleep(0.005)
    assert await trace(desk, flow_id) == "I"
    await desk.store.append_kinds(other, [STARTED, FINISHED])
    await running
    assert await trace(desk, flow_id) == "ISFC"


# ---- both stores


class Twins:
    """Flows that take, end and wait in both stores, as a seed says."""

    def __init__(self, desks: tuple[Desk, Desk], seed: int) -> None:
        self._desks = desks
        self._chance = random.Random(seed)
        self._flows: list[tuple[UUID, UUID]] = []
        self._most = {"a": 3, "b": 2}
        self.told: list[str] = []

    async def begin(self) -> None:
        for desk in self._desks:
            for resource, most in self._most.items():
                await slots(desk).set_limit(resource, most)
        for _ in range(6):
            first, second = self._desks
            self._flows.append((await first.submit(), await second.submit()))

    async def act(self) -> None:
        """Do the same to both, and check that the same comes of it."""
        place = self._chance.randrange(len(self._flows))
        act = self._chance.choice([self._take] * 6 + [self._end, self._end, self._set_limit])
        self.told.append(f"{act.__name__} {place}")
        await act(place)

    async def counted(self) -> list[list[tuple[str, int, int, int, list[tuple[int, int]]]]]:
        places = {flow_id: place for place, pair in enumerate(self._flows) for flow_id in pair}
        return [
            [
                (
                    limit.resource,
                    limit.most,
                    limit.used,
                    limit.waiting,
                    sorted((places[user.flow_id], user.slots) for user in limit.users),
                )
                for limit in await slots(desk).limits()
            ]
            for desk in self._desks
        ]

    async def _take(self, place: int) -> None:
        uses: Mapping[str, int] = self._chance.choice(
            [{"a": 1}, {"b": 1}, {"a": 2}, {"b": 1, "a": 1}, {"a": 3, "b": 2}]
        )
        both = [
            await slots(desk).take(flow_id, 0, uses)
            for desk, flow_id in zip(self._desks, self._flows[place], strict=True)
        ]
        self.told.append(f"{uses} {both}")
        assert both[0].short_of == both[1].short_of, self.told

    async def _end(self, place: int) -> None:
        facts = self._chance.choice([*ENDS, *KEEPS])
        for desk, flow_id in zip(self._desks, self._flows[place], strict=True):
            await desk.store.append_kinds(flow_id, facts)
        if facts in ENDS:
            first, second = self._desks
            self._flows[place] = (await first.submit(), await second.submit())

    async def _set_limit(self, _: int) -> None:
        resource = self._chance.choice(list(self._most))
        self._most[resource] = self._chance.choice([1, 2, 3])
        for desk in self._desks:
            await slots(desk).set_limit(resource, self._most[resource])


@pytest.fixture
async def desks(pool: "asyncpg.Pool[asyncpg.Record]") -> AsyncIterator[tuple[Desk, Desk]]:
    async with postgres_desk(pool) as opened:
        yield memory_desk(), opened


@pytest.mark.parametrize("seed", range(4))
async def test_the_slots_of_both_stores_agree_and_are_never_too_many(
    desks: tuple[Desk, Desk], seed: int
) -> None:
    twins = Twins(desks, seed)
    await twins.begin()
    for _ in range(40):
        used_before, _ = await twins.counted()
        await twins.act()
        memory, postgres = await twins.counted()
        assert memory == postgres, twins.told
        for (_, _, before, *_), (_, most, used, *_) in zip(used_before, memory, strict=True):
            assert used <= max(most, before), twins.told
