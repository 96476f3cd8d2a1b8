"""Which exceptions of a step are its failure, and which interrupt it, on every store."""

import argparse
import asyncio
import sys
from collections.abc import Callable
from typing import Any

import anyio
import msgspec
import pytest

from chem_persistence import BlockingStep, FlowEngine, Step, StepContext, StepFailed, StepRaised
from tests.support.flows.flows import new_flow_id
from tests.support.servers.backends import Backend


class Done(msgspec.Struct):
    text: str


class Act(Step[None, Done]):
    """Do what the test wants at the first run, and nothing at the next."""

    id = "act"

    def __init__(self, act: Callable[[], Any]) -> None:
        self._act: Callable[[], Any] | None = act

    async def run(self, _nothing: None, _context: StepContext) -> Done:
        act, self._act = self._act, None
        if act is not None:
            await act()
        return Done("done")


class Compute(BlockingStep[None, Done]):
    id = "act"

    def __init__(self, act: Callable[[], Any]) -> None:
        self._act: Callable[[], Any] | None = act

    def compute(self, _nothing: None, _context: StepContext) -> Done:
        act, self._act = self._act, None
        if act is not None:
            act()
        return Done("done")


async def exits() -> None:
    sys.exit(3)


async def awaits_what_it_cancelled() -> None:
    task = asyncio.create_task(asyncio.sleep(3_600))
    task.cancel()
    await task


async def awaits_a_cancelled_future() -> None:
    future = asyncio.get_running_loop().create_future()
    future.cancel()
    await future


async def raises_cancelled_error() -> None:
    raise asyncio.CancelledError


async def gathers_what_it_cancelled() -> None:
    tasks = [asyncio.create_task(asyncio.sleep(3_600)) for _ in range(2)]
    tasks[0].cancel()
    try:
        await asyncio.gather(*tasks)
    finally:
        tasks[1].cancel()


class Odd(BaseException):
    pass


async def raises_an_odd_exception() -> None:
    raise Odd


async def raises_a_group() -> None:
    raise BaseExceptionGroup("several", [SystemExit(1), ValueError("x")])


def parses_arguments() -> None:
    argparse.ArgumentParser().parse_args(["--no-such-option"])


def exits_in_the_thread() -> None:
    raise SystemExit("no licence")


@pytest.mark.parametrize(
    ("step", "error_class"),
    [
        (lambda: Act(exits), "builtins.SystemExit"),
        (lambda: Compute(parses_arguments), "builtins.SystemExit"),
        (lambda: Compute(exits_in_the_thread), "builtins.SystemExit"),
        (lambda: Act(awaits_what_it_cancelled), "asyncio.exceptions.CancelledError"),
        (lambda: Act(awaits_a_cancelled_future), "asyncio.exceptions.CancelledError"),
        (lambda: Act(raises_cancelled_error), "asyncio.exceptions.CancelledError"),
        (lambda: Act(gathers_what_it_cancelled), "asyncio.exceptions.CancelledError"),
        (lambda: Act(raises_an_odd_exception), f"{__name__}.Odd"),
        (lambda: Act(raises_a_group), "builtins.BaseExceptionGroup"),
    ],
)
async def test_what_a_step_raises_by_itself_is_its_failure_and_a_retry_mends_it(
    backend: Backend, step: Callable[[], Step[None, Done]], error_class: str
) -> None:
    engine = FlowEngine.builder(backend.store, backend.repository).first_step(step()).build()
    flow_id = new_flow_id()
    with pytest.raises(StepRaised):
        await engine.run_to_end(flow_id)
    failed = (await backend.store.list(flow_id))[-1].kind
    assert isinstance(failed, StepFailed)
    assert failed.error.error_class == error_class
    await engine.schedule_retry(flow_id, reason="again")
    await engine.run_to_end(flow_id)
    assert await engine.event_trace(flow_id) == list("ISXRSFC")


async def test_a_task_group_ends_with_the_failure_of_a_step_that_awaits_what_it_cancelled(
    backend: Backend,
) -> None:
    step = Act(awaits_what_it_cancelled)
    engine = FlowEngine.builder(backend.store, backend.repository).first_step(step).build()
    with pytest.raises(ExceptionGroup) as caught:
        async with asyncio.TaskGroup() as group:
            group.create_task(engine.run_to_end())
    assert caught.group_contains(StepRaised)


async def raises_keyboard_interrupt() -> None:
    raise KeyboardInterrupt


async def raises_a_group_with_keyboard_interrupt() -> None:
    raise BaseExceptionGroup("several", [ValueError("x"), KeyboardInterrupt()])


@pytest.mark.parametrize("act", [raises_keyboard_interrupt, raises_a_group_with_keyboard_interrupt])
async def test_ctrl_c_is_no_failure(backend: Backend, act: Callable[[], Any]) -> None:
    engine = FlowEngine.builder(backend.store, backend.repository).first_step(Act(act)).build()
    flow_id = new_flow_id()
    with pytest.raises((KeyboardInterrupt, BaseExceptionGroup)):
        await engine.run_to_end(flow_id)
    assert await engine.event_trace(flow_id) == list("IS")
    await engine.run_to_end(flow_id)
    assert await engine.event_trace(flow_id) == list("ISSFC")


async def cancelled_by_a_task(engine: FlowEngine[None], flow_id: Any, reached: Any) -> None:
    task = asyncio.create_task(engine.run_to_end(flow_id))
    await reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def cancelled_by_a_timeout(engine: FlowEngine[None], flow_id: Any, reached: Any) -> None:
    async def run() -> None:
        async with asyncio.timeout(None) as timeout:
            expire = asyncio.create_task(reached.wait())
            expire.add_done_callback(lambda _: timeout.reschedule(0))
            await engine.run_to_end(flow_id)

    with pytest.raises(TimeoutError):
        await run()


async def cancelled_by_a_scope(engine: FlowEngine[None], flow_id: Any, reached: Any) -> None:
    with anyio.CancelScope() as scope:
        expire = asyncio.create_task(reached.wait())
        expire.add_done_callback(lambda _: scope.cancel())
        await engine.run_to_end(flow_id)
    assert scope.cancelled_caught


async def cancelled_by_a_group(engine: FlowEngine[None], flow_id: Any, reached: Any) -> None:
    async def fail() -> None:
        await reached.wait()
        raise ValueError

    async def run() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(engine.run_to_end(flow_id))
            group.create_task(fail())

    with pytest.raises(ExceptionGroup):
        await run()


@pytest.mark.parametrize(
    "cancelled",
    [cancelled_by_a_task, cancelled_by_a_timeout, cancelled_by_a_scope, cancelled_by_a_group],
)
async def test_the_cancellation_of_the_flow_itself_is_no_failure(
    backend: Backend, cancelled: Callable[..., Any]
) -> None:
    reached = asyncio.Event()

    async def hold() -> None:
        reached.set()
        await asyncio.Event().wait()

    engine = FlowEngine.builder(backend.store, backend.repository).first_step(Act(hold)).build()
    flow_id = new_flow_id()
    await cancelled(engine, flow_id, reached)
    assert await engine.event_trace(flow_id) == list("IS")
    await engine.run_to_end(flow_id)
    assert await engine.event_trace(flow_id) == list("ISSFC")
