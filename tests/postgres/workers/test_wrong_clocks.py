"""Workers and clients whose clocks are an hour wrong: the server's clock says what is due."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from uuid import UUID

import msgspec
import pytest

from chem_persistence import (
    FlowClient,
    FlowEvent,
    InMemoryFlowRepository,
    PgEventStore,
    PoolProvider,
    RetryPolicy,
    Step,
    StepContext,
    StepSignal,
    Wait,
)
from tests.support.leases.desk import HOUR, Desk, postgres_desk
from tests.support.leases.staff import Act, Acts, Number, chain, submit, trace, until, working

if TYPE_CHECKING:
    import asyncpg

WRONG = [HOUR, -HOUR]
LONG = RetryPolicy(attempts=2, first=8 * HOUR, longest=8 * HOUR)


class Shifted:
    """A clock that is wrong."""

    def __init__(self, error: timedelta) -> None:
        self._error = error

    def now(self) -> datetime:
        return datetime.now(UTC) + self._error


class Nap(Step[Number, Number]):
    """Waits for eight hours, by its own clock or by the library's, unless it has waited."""

    id = "nap"

    def __init__(self, clock: Shifted | None) -> None:
        self._clock = clock

    async def run(self, number: Number, context: StepContext) -> Number | Wait:
        if context.data is not None:
            return number
        until = 8 * HOUR if self._clock is None else self._clock.now() + 8 * HOUR
        return Wait(until, {"slept": True})


@pytest.fixture
async def desk(pool: "asyncpg.Pool[asyncpg.Record]") -> AsyncIterator[Desk]:
    async with postgres_desk(pool) as opened:
        yield opened


@pytest.fixture(params=WRONG, ids=["an hour fast", "an hour slow"])
def error(request: pytest.FixtureRequest) -> timedelta:
    found: timedelta = request.param
    return found


@pytest.fixture
async def wrong(desk: Desk, provider: PoolProvider, error: timedelta) -> AsyncIterator[Desk]:
    """Yield the same desk for a process whose clock is wrong."""
    store = PgEventStore(provider, clock=Shifted(error))
    yield msgspec.structs.replace(desk, store=store)
    await store.aclose()


def is_over(events: Sequence[FlowEvent]) -> bool:
    return events[-1].variant == "C"


def is_scheduled(events: Sequence[FlowEvent]) -> bool:
    return events[-1].variant in "RW"


async def test_a_flow_is_due_when_its_client_says(wrong: Desk, error: timedelta) -> None:
    client = FlowClient(wrong.store, InMemoryFlowRepository(wrong.store))
    flow, present = chain(Act(Acts())), Shifted(error).now()
    for due, expected in ((None, "now"), (present + 8 * HOUR, "in 8 h"), (present - HOUR, "now")):
        flow_id = await client.submit(flow, Number(0), due=due)
        assert (await wrong.seen(flow_id)).due == expected


@pytest.mark.parametrize("what", ["a retry", "a wait for long", "a wait until then"])
async def test_what_a_worker_with_a_wrong_clock_schedules_another_one_runs_in_time(
    desk: Desk, wrong: Desk, error: timedelta, what: str
) -> None:
    acts = Acts()
    acts.failures = [ValueError("no")]
    clock = Shifted(error) if what == "a wait until then" else None
    flow = chain(Act(acts, retry=LONG) if what == "a retry" else Nap(clock))
    flow_id = await submit(desk, flow)
    async with working(wrong, [flow]):
        await until(desk, flow_id, is_scheduled)
    assert await waits_for_hours(desk, flow_id)
    await desk.make_due(flow_id)
    async with working(desk, [flow]):
        await until(desk, flow_id, is_over)


@pytest.mark.parametrize("what", ["a retry", "a wait for long"])
async def test_what_another_worker_schedules_one_with_a_wrong_clock_runs_in_time(
    desk: Desk, wrong: Desk, what: str
) -> None:
    acts = Acts()
    acts.failures = [ValueError("no")]
    flow = chain(Act(acts, retry=LONG) if what == "a retry" else Nap(None))
    flow_id = await submit(desk, flow)
    async with working(desk, [flow]):
        await until(desk, flow_id, is_scheduled)
    async with working(wrong, [flow]):
        other = await submit(desk, flow)
        await until(desk, other, is_scheduled if what != "a retry" else is_over)
        assert await waits_for_hours(desk, flow_id)
        await desk.make_due(flow_id)
        await until(desk, flow_id, is_over)


async def waits_for_hours(desk: Desk, flow_id: UUID) -> bool:
    row = await desk.seen(flow_id)
    assert row.due_in is not None
    return 4 * HOUR <= row.due_in <= 8 * HOUR + timedelta(seconds=1)


async def test_a_call_does_not_make_a_flow_wait_longer(desk: Desk, wrong: Desk) -> None:
    flow = chain(Nap(None))
    flow_id = await submit(desk, flow)
    async with working(desk, [flow]):
        await until(desk, flow_id, is_scheduled)
    await desk.store.append_kind(flow_id, StepSignal(0, "nap", "hello"))
    assert (await desk.seen(flow_id)).due == "now"
    async with working(wrong, [flow]):
        while (row := await desk.seen(flow_id)).lease is not None or row.due == "now":
            await asyncio.sleep(0.005)
    assert row.due_in is not None
    assert 6 * HOUR < row.due_in <= 8 * HOUR


async def test_a_lease_is_as_long_as_the_server_says(wrong: Desk) -> None:
    acts = Acts()
    acts.held = frozenset({"act"})
    flow = chain(Act(acts))
    client = FlowClient(wrong.store, InMemoryFlowRepository(wrong.store))
    flow_id = await client.submit(flow, Number(0))
    async with working(wrong, [flow], lease=2 * HOUR):
        await acts.begun.wait()
        row = await wrong.seen(flow_id)
        assert row.due_in is not None
        assert HOUR < row.due_in <= 2 * HOUR
        acts.may_end.set()
        await until(wrong, flow_id, is_over)
    assert await trace(wrong, flow_id) == "ISFC"
