"""Which flow an engine's questions are about, on every store."""

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from chem_persistence import (
    FlowEngine,
    FlowNotFound,
    InvalidArgument,
    Step,
    StepContext,
    StepStatus,
)
from tests.support.flows.flows import new_flow_id
from tests.support.servers.backends import Backend


class Number(msgspec.Struct):
    n: int


class Meet(Step[Number, Number]):
    """Wait until so many flows are in this step."""

    id = "meet"

    def __init__(self, count: int) -> None:
        self._barrier = asyncio.Barrier(count)

    async def run(self, number: Number, _context: StepContext) -> Number:
        if number.n < 0:
            return number
        await self._barrier.wait()
        return number


def engine_of(backend: Backend, count: int = 1) -> FlowEngine[Number]:
    return FlowEngine.builder(backend.store, backend.repository).first_step(Meet(count)).build()


Question = Callable[..., Any]


def questions(engine: FlowEngine[Number]) -> list[Question]:
    return [engine.load, engine.event_trace, engine.event_variants, engine.flow_fingerprint]


async def test_a_flow_without_events_is_not_found(backend: Backend) -> None:
    engine, flow_id = engine_of(backend), new_flow_id()
    for ask in questions(engine):
        with pytest.raises(FlowNotFound, match=str(flow_id)) as caught:
            await ask(flow_id)
        assert caught.value.flow_id == flow_id
        assert isinstance(caught.value, LookupError)
    with pytest.raises(FlowNotFound):
        await engine.schedule_retry(flow_id, reason="again")


async def test_a_flow_without_events_is_pending_when_that_is_asked_for(backend: Backend) -> None:
    engine, flow_id = engine_of(backend), new_flow_id()
    instance = await engine.load(flow_id, missing_ok=True)
    assert (instance.id, instance.version, instance.steps[0].status) == (
        flow_id,
        0,
        StepStatus.PENDING,
    )
    assert instance == await backend.repository.load(flow_id, None, engine.definition)


async def test_a_flow_that_was_begun_is_found_either_way(backend: Backend) -> None:
    engine = engine_of(backend)
    flow_id = await engine.run_to_end(input=Number(1))
    assert await engine.load(flow_id) == await engine.load(flow_id, missing_ok=True)


@pytest.mark.parametrize("count", [2, 3, 16])
async def test_after_flows_that_ran_at_once_a_question_needs_an_id(
    backend: Backend, count: int
) -> None:
    engine = engine_of(backend, count)
    flow_ids = await asyncio.gather(*(engine.run_to_end(input=Number(n)) for n in range(count)))
    for ask in questions(engine):
        with pytest.raises(InvalidArgument, match="several flows at the same time"):
            await ask()
    for flow_id in flow_ids:
        assert (await engine.load(flow_id)).id == flow_id
        assert await engine.event_trace(flow_id) == list("ISFC")


async def test_a_later_run_alone_is_the_last_one_again(backend: Backend) -> None:
    engine = engine_of(backend, 2)
    await asyncio.gather(*(engine.run_to_end(input=Number(n)) for n in range(2)))
    flow_id = await engine.run_to_end(input=Number(-1))
    assert (await engine.load()).id == flow_id
    assert await engine.event_trace() == list("ISFC")


async def test_flows_one_after_another_are_never_ambiguous(backend: Backend) -> None:
    engine = engine_of(backend)
    for n in range(3):
        flow_id = await engine.run_to_end(input=Number(n))
        assert (await engine.load()).id == flow_id


async def test_a_run_that_was_refused_does_not_make_a_question_ambiguous(backend: Backend) -> None:
    engine = engine_of(backend, 1)
    flow_id = await engine.run_to_end(input=Number(1))
    outcomes = await asyncio.gather(
        engine.run_to_end(flow_id), engine.run_to_end(flow_id), return_exceptions=True
    )
    assert {type(outcome).__name__ for outcome in outcomes} == {"FlowAlreadyCompleted"}
    assert (await engine.load()).id == flow_id


async def test_a_flow_that_fails_beside_another_still_counts(backend: Backend) -> None:
    engine = engine_of(backend, 2)
    first, second = new_flow_id(), new_flow_id()
    running = [
        asyncio.create_task(engine.run_to_end(flow_id, Number(1))) for flow_id in (first, second)
    ]
    await asyncio.wait(running)
    with pytest.raises(InvalidArgument, match="flow_id"):
        await engine.load()
