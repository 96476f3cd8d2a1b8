"""Jobs of a batch queue that behaves badly: each is submitted once, on every store."""

import asyncio
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from chem_persistence import (
    BatchJob,
    FlowEngine,
    FlowHasFailed,
    FlowIsWaiting,
    InMemoryFlowRepository,
    InvalidDefinition,
    JobFailed,
    JobNotSubmitted,
    JobState,
    RetryPolicy,
    StepFailed,
    StepWaits,
    flow,
)
from tests.support.jobs.queue import Queue
from tests.support.jobs.steps import Cube, QueueJob, cube
from tests.support.leases.desk import Desk
from tests.support.leases.staff import Number, client_of, submit, trace, until, working

HOUR = timedelta(hours=1)


@pytest.fixture
def queue(tmp_path: Path) -> Queue:
    return Queue(tmp_path)


async def run(desk: Desk, queue: Queue, attempts: int = 1, **attributes: Any) -> str:
    """Run a flow with one job to its end; return the letters of its events."""
    jobs = cube(queue, attempts, **attributes)
    flow_id = await submit(desk, jobs, 3)
    async with working(desk, [jobs]):
        assert await client_of(desk).result(jobs, flow_id) == Number(27)
    return await trace(desk, flow_id)


async def run_to_failure(desk: Desk, queue: Queue, **options: Any) -> FlowHasFailed:
    jobs = cube(queue, **options)
    flow_id = await submit(desk, jobs, 3)
    async with working(desk, [jobs]):
        with pytest.raises(FlowHasFailed) as failed:
            await client_of(desk).result(jobs, flow_id)
    return failed.value


async def test_a_job_is_submitted_polled_and_collected(desk: Desk, queue: Queue) -> None:
    assert await run(desk, queue) == "ISWFC"
    assert len(queue.accepted()) == 1
    assert queue.passed["before find"] == 0


async def test_the_log_names_the_job_and_its_token(memory: Desk, queue: Queue) -> None:
    queue.runs = False
    jobs = cube(queue)
    flow_id = await submit(memory, jobs)
    async with working(memory, [jobs]):
        *_, waits = await until(memory, flow_id, lambda events: events[-1].variant == "W")
    assert isinstance(waits.kind, StepWaits)
    kept = waits.kind.data["batch_job"]
    assert kept["job"] == {"id": queue.accepted()[0]}
    assert (kept["token"], kept["number"]) == (queue.tokens()[0], 0)


async def test_a_job_keeps_its_license_while_it_waits_in_the_queue(
    memory: Desk, queue: Queue
) -> None:
    queue.runs = False
    jobs, client = cube(queue, uses={"license": 1}), client_of(memory)
    await client.set_limit("license", 1)
    async with working(memory, [jobs]):
        first = await submit(memory, jobs, 3)
        await until(memory, first, lambda events: events[-1].variant == "W")
        second = await submit(memory, jobs, 3)
        while (await client.limits())[0].waiting == 0:
            await asyncio.sleep(0.005)
        assert [user.flow_id for user in (await client.limits())[0].users] == [first]
        assert await trace(memory, second) == "I"
        queue.runs = True
        for flow_id in (first, second):
            assert await client.result(jobs, flow_id) == Number(27)
    assert len(queue.accepted()) == 2


async def test_a_poll_that_finds_nothing_new_stores_nothing(memory: Desk, queue: Queue) -> None:
    queue.runs = False
    jobs = cube(queue)
    flow_id = await submit(memory, jobs, 3)
    async with working(memory, [jobs]):
        await until(memory, flow_id, lambda _: queue.passed["after poll"] > 3)
        assert await trace(memory, flow_id) == "ISW"
        queue.runs = True
        assert await client_of(memory).result(jobs, flow_id) == Number(27)


async def test_a_job_that_was_accepted_although_its_submission_failed_is_found(
    desk: Desk, queue: Queue
) -> None:
    queue.faults["submit"] = ["accepted"]
    queue.lag = 0.01
    assert await run(desk, queue) == "ISWWFC"
    assert len(queue.accepted()) == 1


async def test_a_submission_that_failed_is_tried_again_under_the_same_token(
    memory: Desk, queue: Queue
) -> None:
    queue.faults["submit"] = ["refused", "accepted"]
    assert await run(memory, queue, 2) == "ISWXRSWWFC"
    assert len(queue.accepted()) == 1


async def test_a_submission_that_failed_for_good_says_why(memory: Desk, queue: Queue) -> None:
    queue.faults["submit"] = ["no such partition"]
    failed = await run_to_failure(memory, queue)
    assert failed.error_class == "chem_persistence.JobNotSubmitted"
    assert failed.reason == (
        "the job of step 'cube' was not submitted: QueueError: no such partition"
    )
    assert queue.accepted() == []


async def test_after_a_failed_job_another_one_is_submitted(desk: Desk, queue: Queue) -> None:
    queue.faults["poll"] = [None, "failed"]
    queue.runs = False
    jobs = cube(queue, 2)
    flow_id = await submit(desk, jobs, 3)
    async with working(desk, [jobs]):
        await until(desk, flow_id, lambda events: any(event.variant == "R" for event in events))
        queue.runs = True
        assert await client_of(desk).result(jobs, flow_id) == Number(27)
    assert await trace(desk, flow_id) == "ISWXRSWFC"
    assert len(set(queue.tokens())) == len(queue.accepted()) == 2


async def test_a_failed_job_is_named_in_the_log(memory: Desk, queue: Queue) -> None:
    queue.faults["poll"] = ["failed"]
    failed = await run_to_failure(memory, queue)
    assert (failed.error_class, failed.reason) == ("chem_persistence.JobFailed", "failed")


@pytest.mark.parametrize("call", ["poll", "collect"])
async def test_after_another_failure_the_retry_goes_on_with_the_job(
    memory: Desk, queue: Queue, call: str
) -> None:
    queue.faults[call] = ["no answer", "no answer"]
    assert await run(memory, queue, 3) == "ISWXRSXRSFC"
    assert len(queue.accepted()) == 1


async def test_a_retry_whose_poll_finds_nothing_new_waits_again(memory: Desk, queue: Queue) -> None:
    queue.faults["poll"] = ["no answer"]
    queue.runs = False
    jobs = cube(queue, 2)
    flow_id = await submit(memory, jobs, 3)
    async with working(memory, [jobs]):
        await until(memory, flow_id, lambda events: len(events) == 7)
        queue.runs = True
        assert await client_of(memory).result(jobs, flow_id) == Number(27)
    assert await trace(memory, flow_id) == "ISWXRSWFC"
    assert len(queue.accepted()) == 1


async def test_a_search_that_fails_is_made_again_after_the_queue_has_settled_again(
    memory: Desk, queue: Queue
) -> None:
    queue.faults |= {"submit": ["accepted"], "find": ["no answer"]}
    assert await run(memory, queue, 2) == "ISWXRSWWFC"
    assert len(queue.accepted()) == 1


class TooFew(JobFailed):
    """The job has converged to another minimum, for example."""


class Picky(Cube):
    """Does not take the output of the first job."""

    refused = False

    async def collect(self, number: Number, job: QueueJob) -> Number:
        if not self.refused:
            self.refused = True
            raise TooFew("three imaginary frequencies")
        return await super().collect(number, job)


async def test_a_job_whose_output_is_no_result_has_failed(memory: Desk, queue: Queue) -> None:
    jobs = flow("picky", Picky(queue, retry=RetryPolicy(attempts=2, first=timedelta(0))))
    flow_id = await submit(memory, jobs, 3)
    async with working(memory, [jobs]):
        assert await client_of(memory).result(jobs, flow_id) == Number(27)
    failed = [e.kind for e in await memory.store.list(flow_id) if isinstance(e.kind, StepFailed)]
    assert [each.error.error_class for each in failed] == ["chem_persistence.JobFailed"]
    assert len(set(queue.tokens())) == 2


@pytest.mark.parametrize("error", [JobFailed("gone"), JobNotSubmitted("cube", "gone")])
async def test_only_poll_and_collect_can_say_that_a_job_has_failed(
    memory: Desk, queue: Queue, error: Exception
) -> None:
    class Liar(Cube):
        lies = True

        async def find(self, token: str) -> QueueJob | None:
            if self.lies:
                self.lies = False
                raise error
            return await super().find(token)

    queue.faults["submit"] = ["accepted"]
    jobs = flow("liar", Liar(queue, retry=RetryPolicy(attempts=2, first=timedelta(0))))
    flow_id = await submit(memory, jobs, 3)
    async with working(memory, [jobs]):
        assert await client_of(memory).result(jobs, flow_id) == Number(27)
    assert await trace(memory, flow_id) == "ISWXRSWWFC"
    assert len(queue.accepted()) == 1


async def test_a_job_that_takes_too_long_is_cancelled(memory: Desk, queue: Queue) -> None:
    queue.runs = False
    failed = await run_to_failure(memory, queue, timeout=0.01)
    assert failed.error_class == "builtins.TimeoutError"
    assert queue.cancelled() == queue.accepted()


async def test_after_a_timeout_the_retry_first_finds_that_the_job_is_cancelled(
    memory: Desk, queue: Queue
) -> None:
    queue.runs = False
    jobs = cube(queue, 3, timeout=0.01)
    flow_id = await submit(memory, jobs, 3)
    async with working(memory, [jobs]):
        await until(memory, flow_id, lambda _: bool(queue.cancelled()))
        queue.runs = True
        assert await client_of(memory).result(jobs, flow_id) == Number(27)
    assert await trace(memory, flow_id) == "ISWXRSXRSWFC"
    assert (len(queue.accepted()), len(queue.cancelled())) == (2, 1)


@pytest.mark.parametrize("call", ["submit", "poll", "collect"])
async def test_a_call_that_hangs_is_a_failure(memory: Desk, queue: Queue, call: str) -> None:
    class Hangs(Cube):
        hung = False

        def __getattribute__(self, name: str) -> Any:
            found = super().__getattribute__(name)
            if name == call and not self.hung:
                self.hung = True
                return self.hang
            return found

        async def hang(self, *_: Any) -> Any:
            await until(memory, flow_id, lambda _: False)

    retry = RetryPolicy(attempts=2, first=timedelta(0))
    jobs = flow("hangs", Hangs(queue, retry=retry, call_timeout=0.05))
    flow_id = await submit(memory, jobs, 3)
    async with working(memory, [jobs]):
        assert await client_of(memory).result(jobs, flow_id) == Number(27)
    (failed,) = [e.kind for e in await memory.store.list(flow_id) if isinstance(e.kind, StepFailed)]
    assert f"`{call}` of step 'cube' took longer than 0.05 s" in failed.error.message
    assert len(queue.accepted()) == 1


async def test_a_program_runs_a_job_by_itself(desk: Desk, queue: Queue) -> None:
    queue.faults |= {"submit": ["accepted"], "poll": [None]}
    jobs = cube(queue)
    engine = FlowEngine(desk.store, InMemoryFlowRepository(desk.store), jobs)
    flow_id = await submit(desk, jobs, 3)
    await engine.run_to_end(flow_id)
    assert await trace(desk, flow_id) == "ISWWFC"
    queue.faults["submit"] = ["accepted"]
    await engine.run_to_end(input=Number(4))
    assert "".join(await engine.event_trace()) == "ISWWFC"
    assert len(queue.accepted()) == 2


async def test_a_program_runs_a_job_step_by_step(memory: Desk, queue: Queue) -> None:
    queue.faults["submit"] = ["refused"]
    engine = FlowEngine(memory.store, InMemoryFlowRepository(memory.store), cube(queue, 2))
    flow_id = await submit(memory, engine.flow, 3)
    while not (await engine.load(flow_id)).completed:
        with suppress(FlowIsWaiting):  # its time has not come
            await engine.run_step(flow_id)
    assert await trace(memory, flow_id) == "ISWXRSWFC"
    assert len(queue.accepted()) == 1


class Named(BatchJob[Number, str, Number]):
    """Remembers a name, which is no struct."""

    id = "named"

    async def find(self, token: str) -> str | None:
        raise NotImplementedError

    async def submit(self, input: Number, token: str) -> str:  # noqa: A002
        raise NotImplementedError

    async def poll(self, job: str) -> JobState:
        raise NotImplementedError

    async def collect(self, input: Number, job: str) -> Number:  # noqa: A002
        raise NotImplementedError

    async def cancel(self, job: str) -> None:
        raise NotImplementedError


def test_a_job_is_a_struct() -> None:
    with pytest.raises(InvalidDefinition, match=r"BatchJob\[Input, Job, Output\] .* got str"):
        flow("named", Named())


@pytest.mark.parametrize(
    ("name", "value"), [("every", timedelta(0)), ("settle", timedelta(0)), ("call_timeout", 0.0)]
)
def test_a_length_of_time_is_positive(queue: Queue, name: str, value: Any) -> None:
    with pytest.raises(InvalidDefinition, match=f"step 'cube': {name} must be longer than 0"):
        cube(queue, **{name: value})


async def test_a_queue_settles_anew_when_its_flow_was_called_without_an_event(
    desk: Desk, queue: Queue
) -> None:
    queue.faults["submit"] = ["accepted"]
    jobs = cube(queue, settle=HOUR)
    flow_id = await submit(desk, jobs, 3)
    async with working(desk, [jobs]):
        await until(desk, flow_id, lambda events: events[-1].variant == "W")
        assert await desk.leases.call([flow_id]) == [flow_id]
        await until(desk, flow_id, lambda events: len(events) == 4)
    assert await trace(desk, flow_id) == "ISWW"
    assert queue.passed["before find"] == 0


async def test_a_job_keeps_what_its_step_uses_until_it_has_ended(desk: Desk, queue: Queue) -> None:
    queue.runs = False
    jobs, client = cube(queue, uses={"licence": 1}), client_of(desk)
    await client.set_limit("licence", 1)
    flow_ids = [await submit(desk, jobs, n) for n in (2, 3)]
    async with working(desk, [jobs]):
        await until(desk, flow_ids[0], lambda _: queue.passed["after poll"] > 3)
        assert [limit.used for limit in await client.limits()] == [1]
        assert len(queue.accepted()) == 1
        queue.runs = True
        for flow_id, n in zip(flow_ids, (2, 3), strict=True):
            assert await client.result(jobs, flow_id) == Number(n**3)
    assert len(queue.accepted()) == 2
