"""When a heartbeat counts, on an event loop whose clock the steps set forward."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from chem_persistence import (
    BlockingStep,
    FlowEngine,
    InMemoryEventStore,
    InMemoryFlowRepository,
    Step,
    StepContext,
    StepRaised,
    flow,
)
from tests.support.flows.process_steps import Act, Task

SILENCE = timedelta(hours=1)
Pass = Callable[[float], None]


class Done(msgspec.Struct):
    beats: int


@pytest.fixture
async def passes(monkeypatch: pytest.MonkeyPatch) -> Pass:
    """Return a function that sets the clock of the event loop forward by some hours."""
    loop = asyncio.get_running_loop()
    real, ahead = loop.time, [0.0]
    monkeypatch.setattr(loop, "time", lambda: real() + ahead[0])

    def forward(hours: float) -> None:
        ahead[0] += 3600 * hours

    return forward


class Work(Step[None, Done]):
    """Work for hours; after each piece call `heartbeat`, and let the event loop look."""

    id = "work"
    heartbeat_timeout: timedelta | None = SILENCE

    def __init__(self, passes: Pass, *hours: float) -> None:
        self._passes = passes
        self._hours = hours

    async def run(self, _nothing: None, context: StepContext) -> Done:
        for hours in self._hours:
            self._passes(hours)
            context.heartbeat()
            await asyncio.sleep(0.001)
        return Done(len(self._hours))


class Silent(Step[None, Done]):
    """Call `heartbeat` once, work for longer than is allowed, and wait."""

    id = "silent"
    heartbeat_timeout = SILENCE

    def __init__(self, passes: Pass) -> None:
        self._passes = passes

    async def run(self, _nothing: None, context: StepContext) -> Done:
        self._passes(0.9)
        context.heartbeat()
        self._passes(1.1)
        await asyncio.Event().wait()
        return Done(1)


class InThread(BlockingStep[None, Done]):
    id = "in thread"
    heartbeat_timeout = SILENCE

    def __init__(self, passes: Pass, *hours: float) -> None:
        self._passes = passes
        self._hours = hours

    def compute(self, _nothing: None, context: StepContext) -> Done:
        for hours in self._hours:
            self._passes(hours)
            context.heartbeat()
        return Done(len(self._hours))


async def trace_of(step: Step[Any, Any], given: Any = None) -> str:
    store = InMemoryEventStore()
    engine = FlowEngine(store, InMemoryFlowRepository(store), flow("work", step))
    return "".join(await engine.event_trace(await engine.run_to_end(input=given)))


async def test_a_step_that_is_heard_from_may_take_longer(passes: Pass) -> None:
    assert await trace_of(Work(passes, 0.9, 0.9, 0.9)) == "ISFC"


async def test_a_thread_that_is_heard_from_may_take_longer(passes: Pass) -> None:
    assert await trace_of(InThread(passes, 0.9, 0.9, 0.9)) == "ISFC"


async def test_a_heartbeat_counts_for_its_time_and_no_longer(passes: Pass) -> None:
    with pytest.raises(StepRaised) as caught:
        await trace_of(Silent(passes))
    assert "has not called heartbeat for 3600 s" in str(caught.value.__cause__)


async def test_a_context_without_a_limit_accepts_a_heartbeat(passes: Pass) -> None:
    step = Work(passes, 5.0)
    step.heartbeat_timeout = None
    assert await trace_of(step) == "ISFC"


class Counting(StepContext):
    """Counts the heartbeats that come from a process."""

    heard = 0

    def heartbeat(self) -> None:
        Counting.heard += 1
        super().heartbeat()


async def test_a_process_is_heard_when_it_begins_to_compute_and_seldom_afterwards(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("chem_persistence.engine.attempt.StepContext", Counting)
    Counting.heard = 0
    step = Act(heartbeat_timeout=SILENCE)
    assert await trace_of(step, Task("beat", text="2000")) == "ISFC"
    assert Counting.heard == 1, "all calls are within the interval of one"


async def test_a_process_without_a_limit_sends_no_heartbeat(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("chem_persistence.engine.attempt.StepContext", Counting)
    Counting.heard = 0
    assert await trace_of(Act(), Task("beat", text="10")) == "ISFC"
    assert Counting.heard == 0
