"""A flow is cancelled while its job is in any state: the job is ended first, or was never begun."""

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from chem_persistence import Flow, FlowEngine, FlowWasCancelled, InMemoryFlowRepository, StepStarted
from tests.support.jobs.queue import Queue
from tests.support.jobs.steps import Cube, cube
from tests.support.leases.desk import Desk
from tests.support.leases.staff import client_of, submit, trace, until, working

HOUR = timedelta(hours=1)


@pytest.fixture
def queue(tmp_path: Path) -> Queue:
    opened = Queue(tmp_path)
    opened.runs = False
    return opened


def step_of(jobs: Flow[Any, Any]) -> Cube:
    (step,) = jobs.steps
    assert isinstance(step, Cube)
    return step


async def cancel(desk: Desk, flow_id: UUID) -> None:
    await client_of(desk).cancel(flow_id, reason="enough")


async def ended(desk: Desk, jobs: Flow[Any, Any], flow_id: UUID) -> str:
    """Wait until a flow is cancelled; return the letters of its events."""
    await until(desk, flow_id, lambda events: events[-1].variant == "K")
    with pytest.raises(FlowWasCancelled, match="enough"):
        await client_of(desk).result(jobs, flow_id)
    return await trace(desk, flow_id)


async def test_the_job_of_a_flow_that_waits_is_cancelled(desk: Desk, queue: Queue) -> None:
    jobs = cube(queue, every=HOUR)
    flow_id = await submit(desk, jobs)
    async with working(desk, [jobs]):
        await until(desk, flow_id, lambda events: events[-1].variant == "W")
        await cancel(desk, flow_id)
        assert await ended(desk, jobs, flow_id) == "ISWGK"
    assert queue.cancelled() == queue.accepted()


async def test_a_flow_whose_job_was_not_begun_is_cancelled_at_once(
    desk: Desk, queue: Queue
) -> None:
    jobs = cube(queue)
    flow_id = await submit(desk, jobs)
    await cancel(desk, flow_id)
    assert await ended(desk, jobs, flow_id) == "IK"


async def test_a_submission_that_a_cancellation_interrupts_may_have_succeeded(
    desk: Desk, queue: Queue
) -> None:
    jobs = cube(queue)
    step_of(jobs).held = asyncio.Event()
    queue.lag = 0.01
    flow_id = await submit(desk, jobs)
    lease = timedelta(seconds=0.3)  # it is called at the next renewal
    async with working(desk, [jobs], lease=lease):
        await until(desk, flow_id, lambda _: queue.passed["after submit"] == 1)
        await cancel(desk, flow_id)
        assert await ended(desk, jobs, flow_id) == "ISGWWK"  # the first wait was cut short
    assert len(queue.accepted()) == 1
    assert queue.cancelled() == queue.accepted()


async def test_a_job_that_was_submitted_when_the_cancellation_came_is_stored_first(
    desk: Desk, queue: Queue
) -> None:
    jobs = cube(queue, every=HOUR)
    step_of(jobs).held = held = asyncio.Event()
    flow_id = await submit(desk, jobs)
    async with working(desk, [jobs]):
        await until(desk, flow_id, lambda _: queue.passed["after submit"] == 1)
        await cancel(desk, flow_id)
        held.set()
        assert await ended(desk, jobs, flow_id) == "ISGWK"
    assert queue.cancelled() == queue.accepted()


@pytest.mark.parametrize("is_submitted", [True, False])
async def test_a_start_that_a_dead_worker_has_left_settles_before_the_flow_is_cancelled(
    desk: Desk,
    queue: Queue,
    is_submitted: bool,  # noqa: FBT001
) -> None:
    jobs = cube(queue)
    step_of(jobs).held = asyncio.Event()
    flow_id = await submit(desk, jobs)
    if is_submitted:
        async with working(desk, [jobs], grace=timedelta(0)):
            await until(desk, flow_id, lambda _: queue.passed["after submit"] == 1)
    else:
        token = await desk.take(flow_id)
        start = StepStarted(0, "cube")
        await desk.store.leased(flow_id, token).append_kind(flow_id, start, expected_version=1)
        await desk.make_due(flow_id)
    await cancel(desk, flow_id)
    async with working(desk, [jobs]):
        assert (await ended(desk, jobs, flow_id)).endswith("GWWK")
    assert queue.cancelled() == queue.accepted()
    assert len(queue.accepted()) == is_submitted


async def test_a_flow_that_settles_is_cancelled_when_it_has_settled(
    desk: Desk, queue: Queue
) -> None:
    queue.faults["submit"] = ["accepted"]
    jobs = cube(queue, settle=HOUR)
    flow_id = await submit(desk, jobs)
    async with working(desk, [jobs]):
        await until(desk, flow_id, lambda events: events[-1].variant == "W")
        await cancel(desk, flow_id)
        await until(desk, flow_id, lambda events: len(events) == 5)
        assert queue.passed["before find"] == 0
        step_of(jobs).settle = timedelta(milliseconds=1)
        await until_given_back(desk, flow_id)
        await desk.make_due(flow_id)
        assert await ended(desk, jobs, flow_id) == "ISWGWWK"
    assert queue.cancelled() == queue.accepted()


async def until_given_back(desk: Desk, flow_id: UUID) -> None:
    """Wait until a worker has looked at a flow that was called, and has released it."""
    while (await desk.seen(flow_id)).due != "in 1 h":
        await asyncio.sleep(0.005)


async def test_a_job_that_cannot_be_cancelled_keeps_its_flow_from_being_cancelled(
    desk: Desk, queue: Queue
) -> None:
    queue.faults["cancel"] = ["no answer"]
    jobs = cube(queue, every=HOUR)
    flow_id = await submit(desk, jobs)
    async with working(desk, [jobs]):
        await until(desk, flow_id, lambda events: events[-1].variant == "W")
        await cancel(desk, flow_id)
        await until(desk, flow_id, lambda _: queue.passed["before cancel"] == 1)
        await until_given_back(desk, flow_id)
        assert await trace(desk, flow_id) == "ISWG"
        await desk.make_due(flow_id)
        assert await ended(desk, jobs, flow_id) == "ISWGK"
    assert queue.cancelled() == queue.accepted()


async def test_the_job_of_a_failed_flow_is_cancelled(desk: Desk, queue: Queue) -> None:
    queue.faults["poll"] = ["no answer"]
    jobs = cube(queue)
    flow_id = await submit(desk, jobs)
    async with working(desk, [jobs]):
        await until(desk, flow_id, lambda events: events[-1].variant == "X")
        await cancel(desk, flow_id)
        assert await ended(desk, jobs, flow_id) == "ISWXGK"
    assert queue.cancelled() == queue.accepted()


async def test_a_job_that_has_failed_is_not_cancelled(desk: Desk, queue: Queue) -> None:
    queue.faults["poll"] = ["failed"]
    jobs = cube(queue)
    flow_id = await submit(desk, jobs)
    async with working(desk, [jobs]):
        await until(desk, flow_id, lambda events: events[-1].variant == "X")
        await cancel(desk, flow_id)
        assert await ended(desk, jobs, flow_id) == "ISWXGK"
    assert queue.cancelled() == []


async def test_the_start_of_a_lost_worker_is_settled_before_the_flow_is_cancelled(
    desk: Desk, queue: Queue
) -> None:
    jobs = cube(queue)
    flow_id = await submit(desk, jobs)
    starts = [StepStarted(0, "cube")] * 3
    token = await desk.take(flow_id)
    await desk.store.leased(flow_id, token).append_kinds(flow_id, starts, expected_version=1)
    queue.submit(next_token(flow_id))
    await desk.make_due(flow_id)
    async with working(desk, [jobs]):
        await until(desk, flow_id, lambda events: events[-1].variant == "X")
        await cancel(desk, flow_id)
        assert await ended(desk, jobs, flow_id) == "ISSSXGWWK"
    assert queue.cancelled() == queue.accepted()


def next_token(flow_id: UUID) -> str:
    from chem_persistence.engine.jobs.history import job_token

    return str(job_token(flow_id, 0, 0))


async def test_a_program_that_runs_a_cancelled_flow_ends_its_job(desk: Desk, queue: Queue) -> None:
    jobs = cube(queue)
    step_of(jobs).held = asyncio.Event()
    flow_id = await submit(desk, jobs)
    async with working(desk, [jobs], grace=timedelta(0)):
        await until(desk, flow_id, lambda _: queue.passed["after submit"] == 1)
    await cancel(desk, flow_id)
    engine = FlowEngine(desk.store, InMemoryFlowRepository(desk.store), jobs)
    with pytest.raises(FlowWasCancelled, match="enough"):
        await engine.run_to_end(flow_id)
    assert queue.cancelled() == queue.accepted()
