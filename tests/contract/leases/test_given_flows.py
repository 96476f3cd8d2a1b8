"""What `run_to_end` does with flows that were given to workers, on every store."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

import pytest

from chem_persistence import (
    FlowAlreadyCompleted,
    FlowEngine,
    FlowHasFailed,
    FlowIsRunning,
    FlowWasCancelled,
    InMemoryEventStore,
    InMemoryFlowRepository,
    PgFlowRepository,
    RetryPolicy,
    StepRaised,
    StepSignal,
)
from chem_persistence.domain.events import CANCEL, LibrarySignal
from chem_persistence.engine.leases.holders import being_run, own_holder
from tests.support.leases.desk import HOUR, Desk, memory_desk, postgres_desk
from tests.support.leases.staff import Act, Acts, Number, chain, submit, trace, working

if TYPE_CHECKING:
    import asyncpg


HOLDER = (
    "from chem_persistence.engine.leases.holders import own_holder; print(own_holder(), flush=True)"
)
"""Print the id under which a process holds flows."""


@pytest.fixture
def desk_in_memory() -> Desk:
    return memory_desk()


@pytest.fixture
async def desk_on_postgres(pool: "asyncpg.Pool[asyncpg.Record]") -> AsyncIterator[Desk]:
    async with postgres_desk(pool) as opened:
        yield opened


@pytest.fixture(params=["desk_in_memory", "desk_on_postgres"])
def desk(request: pytest.FixtureRequest) -> Desk:
    """Return each store in turn."""
    desk: Desk = request.getfixturevalue(request.param)
    return desk


@pytest.fixture
def acts() -> Acts:
    return Acts()


def engine_of(desk: Desk, *steps: Act) -> FlowEngine[Number]:
    store = desk.store
    repository = (
        InMemoryFlowRepository(store)
        if isinstance(store, InMemoryEventStore)
        else PgFlowRepository(store._provider)
    )
    return FlowEngine(store, repository, chain(*steps))


async def test_a_given_flow_is_run_under_its_lease(desk: Desk, acts: Acts) -> None:
    steps = (Act(acts, "one"), Act(acts, "two"))
    acts.held = frozenset({"one"})
    flow_id = await submit(desk, chain(*steps))
    running = asyncio.create_task(engine_of(desk, *steps).run_to_end(flow_id))
    await acts.begun.wait()
    assert (await desk.seen(flow_id)).lease is not None
    assert await desk.leases.claim([chain(*steps).definition_hash], flow_id, 9, HOUR) == []
    acts.may_end.set()
    assert await running == flow_id
    assert await trace(desk, flow_id) == "ISFSFC"
    assert await desk.row(flow_id) is None


async def test_a_second_start_is_refused_at_once(desk: Desk, acts: Acts) -> None:
    step = Act(acts)
    acts.held = frozenset({"act"})
    flow_id = await submit(desk, chain(step))
    engine = engine_of(desk, step)
    running = asyncio.create_task(engine.run_to_end(flow_id))
    await acts.begun.wait()
    for other in (engine, engine_of(desk, step)):
        with pytest.raises(FlowIsRunning) as caught:
            await other.run_to_end(flow_id)
        assert caught.value.flow_id == flow_id
    acts.may_end.set()
    await running
    assert len(acts.runs) == 1
    with pytest.raises(FlowAlreadyCompleted):
        await engine.run_to_end(flow_id)


async def test_a_flow_that_a_worker_runs_is_refused(desk: Desk, acts: Acts) -> None:
    step = Act(acts)
    acts.held = frozenset({"act"})
    flow_id = await submit(desk, chain(step))
    async with working(desk, [chain(step)]):
        await acts.begun.wait()
        with pytest.raises(FlowIsRunning):
            await engine_of(desk, step).run_to_end(flow_id)
        acts.may_end.set()


async def test_a_flow_that_was_started_here_has_no_lease(desk: Desk, acts: Acts) -> None:
    engine = engine_of(desk, Act(acts))
    flow_id = await engine.run_to_end(input=Number(0))
    assert await trace(desk, flow_id) == "ISFC"
    assert await desk.row(flow_id) is None


async def test_a_failed_given_flow_is_released(desk: Desk, acts: Acts) -> None:
    step = Act(acts)
    acts.failures = [ValueError("no")]
    flow_id, engine = await submit(desk, chain(step)), engine_of(desk, step)
    with pytest.raises(StepRaised):
        await engine.run_to_end(flow_id)
    with pytest.raises(FlowHasFailed):
        await engine.run_to_end(flow_id)
    row = await desk.seen(flow_id)
    assert (row.due, row.lease) == ("never", None)
    await engine.schedule_retry(flow_id, reason="mended")
    assert (await desk.seen(flow_id)).due == "now"
    await engine.run_to_end(flow_id)
    assert await trace(desk, flow_id) == "ISXRSFC"


async def test_one_step_of_a_given_flow_gives_it_back(desk: Desk, acts: Acts) -> None:
    steps = (Act(acts, "one"), Act(acts, "two"))
    flow_id = await submit(desk, chain(*steps))
    instance = await engine_of(desk, *steps).run_step(flow_id)
    assert instance.cursor == 1
    assert await trace(desk, flow_id) == "ISF"
    row = await desk.seen(flow_id)
    assert (row.due, row.lease) == ("now", None)


async def test_an_interrupted_run_releases_a_given_flow(desk: Desk, acts: Acts) -> None:
    step = Act(acts)
    acts.held = frozenset({"act"})
    flow_id = await submit(desk, chain(step))
    running = asyncio.create_task(engine_of(desk, step).run_to_end(flow_id))
    await acts.begun.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert await trace(desk, flow_id) == "ISG"
    row = await desk.seen(flow_id)
    assert (row.due, row.lease) == ("now", None)


async def test_a_signal_does_not_take_the_outcome_of_a_given_flow(desk: Desk, acts: Acts) -> None:
    step = Act(acts)
    acts.held = frozenset({"act"})
    flow_id = await submit(desk, chain(step))
    running = asyncio.create_task(engine_of(desk, step).run_to_end(flow_id))
    await acts.begun.wait()
    await desk.store.append_kind(flow_id, StepSignal(0, "act", "hello"))
    acts.may_end.set()
    await running
    assert await trace(desk, flow_id) == "ISGFC"


async def test_a_given_flow_that_somebody_cancels_is_cancelled(desk: Desk, acts: Acts) -> None:
    step = Act(acts)
    flow_id = await submit(desk, chain(step))
    await desk.store.append_kind(flow_id, LibrarySignal(0, "act", CANCEL, "not needed"))
    with pytest.raises(FlowWasCancelled, match="not needed"):
        await engine_of(desk, step).run_to_end(flow_id)
    assert await trace(desk, flow_id) == "IGK"


@pytest.mark.parametrize("is_given", [False, True])
async def test_a_retry_is_waited_for(desk: Desk, acts: Acts, is_given: bool) -> None:  # noqa: FBT001
    step = Act(acts, retry=RetryPolicy(attempts=3, first=timedelta(milliseconds=1)))
    acts.failures = [ValueError("no"), ValueError("no")]
    engine = engine_of(desk, step)
    if is_given:
        flow_id = await submit(desk, chain(step))
        await engine.run_to_end(flow_id)
    else:
        flow_id = await engine.run_to_end(input=Number(0))
    assert await trace(desk, flow_id) == "ISXRSXRSFC"


async def test_a_refused_start_says_how_long_the_lease_lasts(desk: Desk, acts: Acts) -> None:
    step = Act(acts)
    flow_id = await submit(desk, chain(step))
    await desk.take(flow_id, HOUR)
    with pytest.raises(FlowIsRunning, match="when its lease ends unless it is renewed") as caught:
        await engine_of(desk, step).run_to_end(flow_id)
    assert caught.value.lease_left is not None
    assert HOUR / 2 < caught.value.lease_left <= HOUR


@pytest.mark.parametrize("whose", ["an ended process", "this process"])
async def test_the_lease_of_a_program_that_has_ended_is_not_waited_for(
    desk: Desk, acts: Acts, whose: str
) -> None:
    holder, step = own_holder(), Act(acts)
    if whose == "an ended process":
        ended = subprocess.run([sys.executable, "-c", HOLDER], capture_output=True, check=True)
        holder = UUID(ended.stdout.decode().strip())
    flow_id = await submit(desk, chain(step))
    assert await desk.leases.take(flow_id, holder, HOUR) is not None
    await engine_of(desk, step).run_to_end(flow_id)
    assert await trace(desk, flow_id) == "ISFC"


@pytest.mark.parametrize("whose", ["a worker", "a process that runs", "this process"])
async def test_the_lease_of_who_may_run_the_flow_is_respected(
    desk: Desk, acts: Acts, whose: str
) -> None:
    step = Act(acts)
    flow_id = await submit(desk, chain(step))
    with subprocess.Popen(
        [sys.executable, "-c", f"{HOLDER}; input()"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        theirs = UUID(other.stdout.readline().decode().strip())
        holder = {"a worker": uuid4(), "this process": own_holder()}.get(whose, theirs)
        assert await desk.leases.take(flow_id, holder, HOUR) is not None
        with being_run(flow_id), pytest.raises(FlowIsRunning):
            await engine_of(desk, step).run_to_end(flow_id)
        other.kill()
    assert acts.runs == []


async def test_a_step_leaves_a_flow_that_is_not_due_by_itself_so(desk: Desk, acts: Acts) -> None:
    steps = (Act(acts, "one"), Act(acts, "two"))
    flow_id = await submit(desk, chain(*steps))
    token = await desk.take(flow_id)
    await desk.leases.give_back(flow_id, token, None)
    await engine_of(desk, *steps).run_step(flow_id)
    row = await desk.seen(flow_id)
    assert (row.due, row.lease) == ("never", None)
