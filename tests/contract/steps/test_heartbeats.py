"""A step that is not heard from fails as by its timeout, on every store.

What is to be cancelled waits for ever; what is not has an hour. tests/unit/engine shows when a
heartbeat counts, on a clock of its own.
"""

import asyncio
from datetime import timedelta

import msgspec
import pytest

from chem_persistence import (
    FlowEngine,
    RetryPolicy,
    Step,
    StepContext,
    StepFailed,
    StepRaised,
    flow,
    step,
)
from tests.support.servers.backends import Backend

LONG = timedelta(hours=1)


class Done(msgspec.Struct):
    attempt: int


class Hang(Step[None, Done]):
    """Wait for ever in the first attempts, so many of them."""

    id = "hang"
    retry = RetryPolicy(attempts=2, first=timedelta(0))

    heartbeat_timeout = timedelta(seconds=0.1)

    def __init__(self, hangs: int) -> None:
        self._hangs = hangs
        self.cancelled = 0

    async def run(self, _nothing: None, context: StepContext) -> Done:
        if context.attempt <= self._hangs:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.cancelled += 1
                raise
        return Done(context.attempt)


def engine_of(backend: Backend, *steps: Step[None, Done]) -> FlowEngine[None]:
    return FlowEngine(backend.store, backend.repository, flow("beats", *steps))


async def test_a_step_that_is_not_heard_from_is_cancelled_and_has_failed(backend: Backend) -> None:
    hanging = Hang(2)
    engine = engine_of(backend, hanging)
    with pytest.raises(StepRaised) as caught:
        await engine.run_to_end()
    flow_id = caught.value.flow_id
    events = await backend.store.list(flow_id)
    assert "".join(event.variant for event in events) == "ISXRSX"
    assert hanging.cancelled == 2
    failed = events[-1].kind
    assert isinstance(failed, StepFailed)
    assert failed.error.error_class == "builtins.TimeoutError"
    assert failed.error.message == (
        "step 'hang' has not called heartbeat for 0.1 s: it was cancelled"
    )


async def test_a_step_that_is_tried_again_is_heard_anew(backend: Backend) -> None:
    engine = engine_of(backend, Hang(1))
    assert await engine.event_trace(await engine.run_to_end()) == list("ISXRSFC")


async def test_a_step_that_calls_no_heartbeat_needs_none_in_its_time(backend: Backend) -> None:
    @step("quick")
    async def quick(_nothing: None, context: StepContext) -> Done:
        context.heartbeat()
        return Done(1)

    quick.heartbeat_timeout = LONG
    engine = engine_of(backend, quick)
    assert await engine.event_trace(await engine.run_to_end()) == list("ISFC")


async def test_a_timeout_of_the_step_itself_stays_what_it_is(backend: Backend) -> None:
    @step("own")
    async def own(_nothing: None) -> Done:
        raise TimeoutError("of the instrument")

    own.heartbeat_timeout, own.timeout = LONG, 3600
    with pytest.raises(StepRaised) as caught:
        await engine_of(backend, own).run_to_end()
    assert str(caught.value.__cause__) == "of the instrument"


async def test_a_step_that_is_heard_from_still_has_its_timeout(backend: Backend) -> None:
    @step("chatty")
    async def chatty(_nothing: None, context: StepContext) -> Done:
        while True:
            context.heartbeat()
            await asyncio.sleep(0.01)

    chatty.heartbeat_timeout, chatty.timeout = LONG, 0.05
    with pytest.raises(StepRaised) as caught:
        await engine_of(backend, chatty).run_to_end()
    assert "took longer than its timeout of 0.05 s" in str(caught.value.__cause__)
