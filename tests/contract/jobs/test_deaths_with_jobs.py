"""A worker dies at any of its calls, to the store or to the queue: the job is submitted once."""

import asyncio
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from chem_persistence import FlowHasFailed, FlowState, FlowWasCancelled
from tests.support.faults.mortal_store import Life
from tests.support.jobs.queue import BOUNDARIES, Queue
from tests.support.jobs.steps import cube
from tests.support.leases.deaths import worked_until_death
from tests.support.leases.desk import Desk
from tests.support.leases.staff import Number, client_of, submit, trace, until, working

MOST_CALLS = 60


async def completed_by_another(desk: Desk, jobs: Any, flow_id: UUID) -> None:
    if await desk.row(flow_id) is not None:
        await desk.make_due(flow_id)
    async with working(desk, [jobs]):
        assert await client_of(desk).result(jobs, flow_id) == Number(27)


def stride_of(desk: Desk) -> int:
    return 1 if desk.name == "memory" else 3


def dies_at(life: Life, boundary: str) -> Any:
    def at(passed: str) -> None:
        if passed == boundary:
            life.left = 0
            life.over.set()

    return at


@pytest.mark.parametrize("boundary", [each for each in BOUNDARIES if "cancel" not in each])
async def test_a_worker_that_dies_at_a_call_to_the_queue(
    desk: Desk, tmp_path: Path, boundary: str
) -> None:
    queue, life = Queue(tmp_path, lag=0.005), Life(10**6)
    if "find" in boundary:
        queue.faults["submit"] = ["accepted"]
    jobs = cube(queue)
    flow_id = await submit(desk, jobs, 3)
    queue.at = dies_at(life, boundary)
    assert await worked_until_death(desk, [jobs], life, client_of(desk).wait(flow_id))
    await completed_by_another(desk, jobs, flow_id)
    assert len(queue.accepted()) == len(queue.ran()) == 1


@pytest.mark.parametrize("fault", [None, "accepted", "refused"])
async def test_a_worker_that_dies_at_a_call_to_the_store(
    desk: Desk, tmp_path: Path, fault: str | None
) -> None:
    for calls in range(1, MOST_CALLS, stride_of(desk)):
        queue, life = Queue(tmp_path / str(calls), lag=0.005), Life(calls)
        queue.faults["submit"] = [fault]
        jobs = cube(queue, 2)
        flow_id = await submit(desk, jobs, 3)
        died = await worked_until_death(desk, [jobs], life, client_of(desk).wait(flow_id))
        await completed_by_another(desk, jobs, flow_id)
        assert len(queue.accepted()) == len(queue.ran()) == 1, calls
        variants = Counter(await trace(desk, flow_id))
        assert (variants["I"], variants["F"], variants["C"]) == (1, 1, 1)
        if not died:
            return
    pytest.fail("the worker never had enough calls")


async def test_a_worker_that_dies_while_it_cancels(desk: Desk, tmp_path: Path) -> None:
    for calls in range(1, MOST_CALLS, stride_of(desk)):
        queue, life = Queue(tmp_path / str(calls), lag=0.005), Life(calls)
        queue.runs = False
        jobs = cube(queue)
        flow_id = await submit(desk, jobs, 3)
        async with working(desk, [jobs]):
            await until(desk, flow_id, lambda events: events[-1].variant == "W")
        await client_of(desk).cancel(flow_id, reason="enough")
        died = await worked_until_death(desk, [jobs], life, client_of(desk).wait(flow_id))
        if await desk.row(flow_id) is not None:
            await desk.make_due(flow_id)
        async with working(desk, [jobs]):
            assert await client_of(desk).wait(flow_id) is FlowState.CANCELLED
        assert len(queue.accepted()) == 1
        assert queue.cancelled() == queue.accepted()
        if not died:
            return
    pytest.fail("the worker never had enough calls")


async def test_a_worker_that_is_stopped_while_it_submits(desk: Desk, tmp_path: Path) -> None:
    queue = Queue(tmp_path, lag=0.005)
    jobs = cube(queue)
    (step,) = jobs.steps
    step.held = asyncio.Event()  # type: ignore[attr-defined]
    flow_id = await submit(desk, jobs, 3)
    async with working(desk, [jobs], grace=timedelta(0)):
        await until(desk, flow_id, lambda _: queue.passed["after submit"] == 1)
    async with working(desk, [jobs]):
        assert await client_of(desk).result(jobs, flow_id) == Number(27)
    assert await trace(desk, flow_id) == "ISGSWWFC"
    assert len(queue.accepted()) == 1


async def test_a_submission_that_kills_its_worker_does_not_kill_every_worker(
    desk: Desk, tmp_path: Path
) -> None:
    queue = Queue(tmp_path)
    jobs = cube(queue, 5)
    flow_id = await submit(desk, jobs, 3)
    for _ in range(3):
        life = Life(10**6)
        queue.at = dies_at(life, "before submit")
        queue.faults["submit"] = ["never arrived"]
        assert await worked_until_death(desk, [jobs], life, client_of(desk).wait(flow_id))
        await desk.make_due(flow_id)
    queue.at, queue.faults = (lambda _: None), {}
    async with working(desk, [jobs]):
        with pytest.raises(FlowHasFailed) as failed:
            await client_of(desk).result(jobs, flow_id)
        assert failed.value.error_class == "chem_persistence.WorkerLost"
        assert "was started 3 times in a row" in failed.value.reason
        assert queue.accepted() == []
        await client_of(desk).retry(flow_id, reason="mended")
        assert await client_of(desk).result(jobs, flow_id) == Number(27)
    assert len(queue.accepted()) == 1


async def test_a_worker_that_lost_its_lease_does_not_cancel_the_job(
    desk: Desk, tmp_path: Path
) -> None:
    queue = Queue(tmp_path)
    jobs = cube(queue)
    flow_id = await submit(desk, jobs, 3)
    (step,) = jobs.steps
    step.held = held = asyncio.Event()  # type: ignore[attr-defined]
    async with working(desk, [jobs]):
        await until(desk, flow_id, lambda _: queue.passed["after submit"] == 1)
        await desk.make_due(flow_id)  # another worker claims it
        async with working(desk, [cube(queue)]):
            try:
                assert await client_of(desk).result(jobs, flow_id) == Number(27)
            except FlowWasCancelled:  # pragma: no cover
                pytest.fail("nobody has asked for that")
        held.set()
    assert len(queue.accepted()) == 1
    assert queue.cancelled() == []
