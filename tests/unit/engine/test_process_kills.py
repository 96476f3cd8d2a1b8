"""A child process ends when its flow is cancelled, when its time is over, and with its parent."""

import asyncio
import os
import select
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import anyio
import pytest
import uvloop

from chem_persistence import (
    Flow,
    FlowEngine,
    InMemoryEventStore,
    InMemoryFlowRepository,
    RetryPolicy,
    StepFailed,
    StepRaised,
)
from chem_persistence.domain.events import CANCEL, LibrarySignal
from chem_persistence.engine.processes.address import Address
from chem_persistence.engine.processes.messages import Job, SentStep
from chem_persistence.engine.processes.pool import POOL
from chem_persistence.engine.processes.process import ChildProcess
from tests.support.flows.flows import new_flow_id
from tests.support.flows.process_steps import Act, Task
from tests.support.leases.desk import HOUR, Desk, memory_desk
from tests.support.leases.staff import chain, client_of, trace, until, working

REPOSITORY = Path(__file__).parents[3]
SLEEPS = ["sleep", "sleep with a child", "sleep through SIGTERM", "hold the interpreter"]


class Pipe:
    """A named pipe that a step holds open: it ends with the last process that the step started."""

    def __init__(self, path: Path) -> None:
        self.path = path
        os.mkfifo(path)
        self._reading = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # else it would wait

    async def opened(self) -> None:
        """Wait until the step runs."""
        poll = select.poll()
        poll.register(self._reading, select.POLLIN)
        await asyncio.to_thread(poll.poll)

    async def ended(self) -> None:
        """Wait until nothing holds the pipe any more."""
        os.set_blocking(self._reading, True)
        with os.fdopen(self._reading) as file:
            await asyncio.wait_for(asyncio.to_thread(file.read), 60)


@pytest.fixture
def pipe(tmp_path: Path) -> Pipe:
    return Pipe(tmp_path / "pipe")


@pytest.fixture
async def store() -> AsyncIterator[InMemoryEventStore]:
    yield InMemoryEventStore()
    assert not POOL._busy


def engine_of(store: InMemoryEventStore, step: Any) -> FlowEngine[Any]:
    return FlowEngine.builder(store, InMemoryFlowRepository(store)).first_step(step).build()


@pytest.mark.parametrize("act", SLEEPS)
async def test_a_cancelled_flow_ends_its_process_and_goes_on_later(
    store: InMemoryEventStore, pipe: Pipe, act: str
) -> None:
    engine, flow_id = engine_of(store, Act()), new_flow_id()
    task = asyncio.create_task(engine.run_to_end(flow_id, Task(act, str(pipe.path))))
    await pipe.opened()
    task.cancel()
    await asyncio.sleep(0)
    task.cancel()  # a second one does not stop the end of the process
    with pytest.raises(asyncio.CancelledError):
        await task
    await pipe.ended()
    assert await engine.event_trace(flow_id) == ["I", "S"]


@pytest.mark.parametrize("act", SLEEPS)
async def test_a_step_beyond_its_timeout_is_ended_and_has_failed(
    store: InMemoryEventStore, pipe: Pipe, act: str
) -> None:
    engine, flow_id = engine_of(store, Act(timeout=1.5)), new_flow_id()
    with pytest.raises(StepRaised):
        await engine.run_to_end(flow_id, Task(act, str(pipe.path)))
    await pipe.ended()
    failed = (await store.list(flow_id))[-1].kind
    assert isinstance(failed, StepFailed)
    assert failed.error.error_class == "builtins.TimeoutError"
    assert failed.error.message == (
        "step 'act' took longer than its timeout of 1.5 s: its process was ended"
    )


async def test_a_process_that_is_not_heard_from_is_ended_and_has_failed(
    store: InMemoryEventStore, pipe: Pipe
) -> None:
    engine = engine_of(store, Act(heartbeat_timeout=timedelta(seconds=0.2)))
    flow_id = new_flow_id()
    with pytest.raises(StepRaised):
        await engine.run_to_end(flow_id, Task("sleep", str(pipe.path)))
    await pipe.ended()
    failed = (await store.list(flow_id))[-1].kind
    assert isinstance(failed, StepFailed)
    assert failed.error.error_class == "builtins.TimeoutError"
    assert failed.error.message == (
        "step 'act' has not called heartbeat for 0.2 s: its process was ended"
    )


async def given(desk: Desk, flow: Flow[Task, Any], pipe: Pipe) -> UUID:
    """Submit a flow to workers whose step sleeps for ever."""
    return await client_of(desk).submit(flow, Task("sleep", str(pipe.path)))


async def test_a_worker_ends_the_process_of_a_flow_that_is_cancelled(pipe: Pipe) -> None:
    desk, flow = memory_desk(), chain(Act())
    flow_id = await given(desk, flow, pipe)
    async with working(desk, [flow], lease=timedelta(seconds=0.3)):
        await pipe.opened()
        await desk.store.append_kind(flow_id, LibrarySignal(0, "act", CANCEL))
        await pipe.ended()
        await until(desk, flow_id, lambda events: events[-1].variant == "K")
    assert await trace(desk, flow_id) == "ISGK"


async def test_a_worker_that_stops_ends_its_processes(pipe: Pipe) -> None:
    desk, flow = memory_desk(), chain(Act())
    flow_id = await given(desk, flow, pipe)
    async with working(desk, [flow], grace=timedelta(0)):
        await pipe.opened()
    await pipe.ended()
    assert await trace(desk, flow_id) == "ISG"
    assert not POOL._busy


async def test_a_process_beyond_its_timeout_is_ended_and_tried_again_later(pipe: Pipe) -> None:
    step = Act(timeout=1.5)
    step.retry = RetryPolicy(attempts=2, first=2 * HOUR, longest=2 * HOUR)
    desk, flow = memory_desk(), chain(step)
    flow_id = await given(desk, flow, pipe)
    async with working(desk, [flow]):
        await until(desk, flow_id, lambda events: events[-1].variant == "R")
    await pipe.ended()
    assert await trace(desk, flow_id) == "ISXR"


async def test_a_cancelled_scope_ends_its_process(store: InMemoryEventStore, pipe: Pipe) -> None:
    engine, flow_id = engine_of(store, Act()), new_flow_id()
    async with anyio.create_task_group() as group:
        group.start_soon(engine.run_to_end, flow_id, Task("sleep", str(pipe.path)))
        await pipe.opened()
        group.cancel_scope.cancel()
    await pipe.ended()
    assert await engine.event_trace(flow_id) == ["I", "S"]


@pytest.mark.parametrize("turns", [*range(24)])
async def test_a_cancellation_at_any_await_leaves_no_process_at_work(
    store: InMemoryEventStore, turns: int
) -> None:
    engine, flow_id = engine_of(store, Act()), new_flow_id()
    task = asyncio.create_task(engine.run_to_end(flow_id, Task("tell")))
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    assert not POOL._busy
    if not (await engine.load(flow_id, missing_ok=True)).completed:
        await engine.run_to_end(flow_id, Task("tell"))
    trace = await engine.event_trace(flow_id)
    assert "X" not in trace
    assert trace[-2:] == ["F", "C"]


async def test_an_idle_process_that_died_is_replaced(store: InMemoryEventStore) -> None:
    engine = engine_of(store, Act())
    await engine.run_to_end(input=Task("tell"))
    process = POOL._idle[-1]
    process.kill()
    flow_id = await engine.run_to_end(input=Task("tell"))
    assert await engine.event_trace(flow_id) == ["I", "S", "F", "C"]


async def test_a_job_that_a_dying_process_never_began_is_given_to_another(
    store: InMemoryEventStore,
) -> None:
    engine, flow_id = engine_of(store, Act()), new_flow_id()
    await engine.run_to_end(input=Task("tell"))
    process = POOL._idle[-1]
    process.send_signal(signal.SIGSTOP)
    task = asyncio.create_task(engine.run_to_end(flow_id, Task("tell")))
    while process not in POOL._busy:
        await asyncio.sleep(0)
    process.kill()
    await task
    assert await engine.event_trace(flow_id) == ["I", "S", "F", "C"]


async def test_a_process_without_work_ends_by_itself() -> None:
    process = ChildProcess(idle_seconds=0.0)
    try:
        assert await asyncio.to_thread(process._reaped.result, 60) == 0
    finally:
        process.close()


async def test_a_process_whose_parent_has_closed_the_connection_ends_without_a_word(
    capfd: pytest.CaptureFixture[str],
) -> None:
    """A parent that was killed closes the connection and the pipe, one of them first."""
    step = SentStep(Address("none", "None"), None, {}, None, b"", "")
    process = ChildProcess()
    try:
        assert await process.send(Job(step, None, new_flow_id(), 0, 1, ""))
        process._ours.close()
        assert await asyncio.to_thread(process._reaped.result, 60) == 0
    finally:
        process.close()
    assert capfd.readouterr() == ("", "")


def test_event_loops_one_after_the_other_share_a_process(store: InMemoryEventStore) -> None:
    async def pid() -> str:
        engine = engine_of(store, Act())
        (slot,) = (await engine.load(await engine.run_to_end(input=Task("tell")))).steps
        lines: list[str] = (await store.get_artifact(slot.outputs[0])).payload["lines"]
        return lines[0]

    first = asyncio.run(pid())
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(pid()) == first
    assert asyncio.run(pid()) == first


PARENT = """
import asyncio, os, sys
from chem_persistence import FlowEngine, InMemoryEventStore, InMemoryFlowRepository
from tests.support.flows.process_steps import Act, Task

async def main(*given):
    store = InMemoryEventStore()
    builder = FlowEngine.builder(store, InMemoryFlowRepository(store))
    await builder.first_step(Act()).build().run_to_end(input=Task(*given))

asyncio.run(main("tell"))
if {fork}:
    if os.fork() == 0:
        asyncio.run(main("tell"))
        sys.exit(0)
    assert os.wait()[1] == 0
asyncio.run(main(*sys.argv[1:]))
"""


def parent(act: str, path: Path, *, fork: bool = False) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", PARENT.format(fork=fork), act, str(path)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(REPOSITORY), *sys.path])},
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


@pytest.mark.parametrize("act", SLEEPS)
async def test_the_process_ends_when_its_parent_is_killed(pipe: Pipe, act: str) -> None:
    with parent(act, pipe.path) as program:
        await pipe.opened()
        program.kill()
        await pipe.ended()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_to_the_parents_group_does_not_reach_the_step(
    pipe: Pipe, number: signal.Signals
) -> None:
    with parent("sleep", pipe.path) as program:
        await pipe.opened()
        os.killpg(program.pid, number)
        await pipe.ended()
        _, errors = program.communicate(timeout=60)
        assert program.returncode in {-number, 1}
        assert b"ProcessDied" not in errors


async def test_a_fork_of_the_parent_has_processes_of_its_own(pipe: Pipe) -> None:
    with parent("tell", pipe.path, fork=True) as program:
        _, errors = program.communicate(timeout=60)
        assert (program.returncode, errors) == (0, b"")
        await pipe.ended()
