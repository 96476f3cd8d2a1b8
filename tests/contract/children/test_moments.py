"""A worker that is stopped, whose flow is cancelled, or is taken from it, at any of its calls.

So it happens while the worker claims, loads, starts, parks, wakes, fails, completes. What is asked
of the logs holds whatever call it is.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from chem_persistence import (
    Flow,
    FlowAlreadyCompleted,
    FlowEngine,
    FlowEvent,
    FlowIsRunning,
    FlowIsWaiting,
    FlowState,
    FlowWasCancelled,
    InMemoryFlowRepository,
    RetryPolicy,
    Step,
    StepContext,
    StepRaised,
    Wait,
    Worker,
)
from chem_persistence.engine.leases.own_flow import OwnFlows
from tests.support.faults.mortal_store import Moment, MortalStore
from tests.support.leases.desk import Desk
from tests.support.leases.families import Add, Picky, mapped
from tests.support.leases.staff import Number, chain, client_of, submit, trace, working

MOST_CALLS = 200

AT_ONCE = timedelta(0)

SIMPLE = "one that waits and fails"
WORKER = "the worker under test"


class Nap(Step[Number, Number]):
    """Waits once, and fails once after that."""

    id = "nap"
    retry = RetryPolicy(attempts=2, first=AT_ONCE)

    async def run(self, number: Number, context: StepContext) -> Number | Wait:
        if context.data is None and not context.attempt > 1:
            return Wait(AT_ONCE, {"slept": True})
        if context.data is not None and not await context.saved(Number):
            await context.save(number)
            raise ValueError("once")
        return Number(number.n + 1)


FLOWS: dict[str, tuple[Flow[Number, Number], int]] = {
    SIMPLE: (chain(Add(1, "one"), Nap(), Add(1, "three")), 6),
    "a map": (mapped(Picky(), at_once=2), 30),
}
TIMES = ["before the call", "after the call"]
EVERY = [4, pytest.param(1, marks=pytest.mark.slow)]

Meanwhile = Callable[[Worker, UUID], Awaitable[object]]


async def worked(desk: Desk, name: str, calls: int, time: str, meanwhile: Meanwhile) -> UUID | None:
    """Run a flow; at one of the calls do something. Return None if there were not so many."""
    flow = FLOWS[name][0]
    flow_id = await submit(desk, flow, 3)
    moment = Moment(calls, lambda: meanwhile(worker, flow_id), after=time == TIMES[1])
    store, grace = MortalStore(desk.store, moment), timedelta(seconds=5)
    worker = Worker(store, [flow], poll_interval=0.01, grace=grace)
    running = asyncio.create_task(worker.run(), name=WORKER)
    ended = asyncio.create_task(client_of(desk).wait(flow_id))
    await asyncio.wait([running, ended], return_when=asyncio.FIRST_COMPLETED)
    worker.stop()
    ended.cancel()
    await asyncio.wait([running, ended])
    assert running.cancelled() or running.exception() is None
    return flow_id if moment.over.is_set() else None


def some_calls(desk: Desk, name: str, every: int, time: str) -> range:
    """Return the calls that are tried; before and after a call other ones, if not all are."""
    stride = every if every == 1 or name == SIMPLE else 3 * every
    if desk.name != "memory" and every > 1:
        stride *= 3
    return range(1 if every == 1 or time == TIMES[0] else 1 + stride // 2, MOST_CALLS, stride)


async def check_logs(desk: Desk) -> dict[UUID, list[FlowEvent]]:
    """Check that each flow has ended once, has no row, and has finished no step twice."""
    logs: dict[UUID, list[FlowEvent]] = {}
    for event in await desk.store.read_feed(limit=1_000_000):
        logs.setdefault(event.flow_id, []).append(event)
    for flow_id, events in logs.items():
        variants = Counter(event.variant for event in events)
        assert [event.version for event in events] == list(range(len(events)))
        assert (variants["I"], variants["C"] + variants["K"]) == (1, 1)
        steps = [getattr(event.kind, "step_index", -1) for event in events if event.variant == "F"]
        assert steps == sorted(set(steps))
        assert await desk.row(flow_id) is None
    return logs


async def ends(desk: Desk, flow: Flow[Any, Any], flow_id: UUID) -> FlowState:
    """Have another worker go on with what there is until the flow and its children have ended."""
    async with working(desk, [flow]):
        state = await client_of(desk).wait(flow_id)
        for each in {event.flow_id for event in await desk.store.read_feed(limit=1_000_000)}:
            await client_of(desk).wait(each)
    return state


@pytest.mark.parametrize("every", EVERY)
@pytest.mark.parametrize("time", TIMES)
@pytest.mark.parametrize("name", FLOWS)
async def test_a_worker_that_is_told_to_stop_at_any_call_leaves_nothing_held(
    desk: Desk, name: str, time: str, every: int
) -> None:
    async def stop(worker: Worker, _: UUID) -> None:
        worker.stop()

    await check_that_nothing_is_held(desk, name, time, every, stop)


@pytest.mark.parametrize("every", EVERY)
@pytest.mark.parametrize("time", TIMES)
async def test_a_worker_whose_task_is_cancelled_at_any_call_leaves_nothing_held(
    desk: Desk, time: str, every: int
) -> None:
    async def cancel(_: Worker, __: UUID) -> None:
        next(task for task in asyncio.all_tasks() if task.get_name() == WORKER).cancel()

    await check_that_nothing_is_held(desk, SIMPLE, time, every, cancel)


class SavesAndRaises(Step[Number, Number]):
    """Raises behind a value that it has saved, without giving way to anybody in between."""

    id = "saves"

    async def run(self, number: Number, context: StepContext) -> Number:
        if not await context.saved(Number):
            await context.save(number)
            raise ValueError("once")
        return number


async def test_a_step_that_raises_while_its_worker_stops_is_released(desk: Desk) -> None:
    flow = chain(SavesAndRaises())
    flow_id = await submit(desk, flow, 3)

    async def stop() -> None:  # and wait until the step is to be interrupted
        worker.stop()
        while not any(held.run.interruption for held in worker._running.values()):
            await asyncio.sleep(0.005)

    saved = 6  # a claim, the log, the input, the start, a look for a value, and then the value
    store = MortalStore(desk.store, Moment(saved, stop))
    worker = Worker(store, [flow], poll_interval=0.01, grace=timedelta(0))
    await worker.run()
    assert await trace(desk, flow_id) == "ISGG"
    row = await desk.seen(flow_id)
    assert (row.lease, row.due) == (None, "now")


async def check_that_nothing_is_held(
    desk: Desk, name: str, time: str, every: int, stop: Meanwhile
) -> None:
    """Check that a worker that is stopped at any call has released its flows, which go on."""
    flow, expected = FLOWS[name]
    for calls in some_calls(desk, name, every, time):
        flow_id = await worked(desk, name, calls, time, stop)
        for each in {event.flow_id for event in await desk.store.read_feed(limit=1_000_000)}:
            row = await desk.row(each)
            assert row is None or row.lease is None, calls
        if flow_id is None:
            break
        async with working(desk, [flow]):
            assert await client_of(desk).result(flow, flow_id) == Number(expected), calls
    else:
        pytest.fail("there was always another call")
    await check_logs(desk)


@pytest.mark.parametrize("every", EVERY)
@pytest.mark.parametrize("time", TIMES)
@pytest.mark.parametrize("name", FLOWS)
async def test_a_flow_that_is_cancelled_at_any_call_is_cancelled_or_completed(
    desk: Desk, name: str, time: str, every: int
) -> None:
    accepted: set[UUID] = set()

    async def cancel(_: Worker, flow_id: UUID) -> None:
        with suppress(FlowAlreadyCompleted):
            await client_of(desk).cancel(flow_id, reason="no longer needed")
            accepted.add(flow_id)

    flow = FLOWS[name][0]
    for calls in some_calls(desk, name, every, time):
        flow_id = await worked(desk, name, calls, time, cancel)
        if flow_id is None:
            break
        state = await ends(desk, flow, flow_id)
        wanted = FlowState.CANCELLED if flow_id in accepted else FlowState.COMPLETED
        assert state is wanted, calls
    else:
        pytest.fail("there was always another call")
    assert accepted
    await check_logs(desk)


@pytest.mark.parametrize("every", EVERY)
@pytest.mark.parametrize("time", TIMES)
@pytest.mark.parametrize("name", FLOWS)
async def test_a_flow_that_another_process_takes_at_any_call_is_completed_once(
    desk: Desk, name: str, time: str, every: int
) -> None:
    flow, expected = FLOWS[name]

    async def take(_: Worker, flow_id: UUID) -> None:
        if await desk.row(flow_id) is not None:
            await desk.make_due(flow_id)  # as if the worker had been stopped for an hour
            with suppress(
                FlowAlreadyCompleted, FlowIsRunning, FlowIsWaiting, FlowWasCancelled, StepRaised
            ):
                await OwnFlows(desk.store, flow).run(flow, flow_id, to_end=False)

    for calls in some_calls(desk, name, every, time):
        flow_id = await worked(desk, name, calls, time, take)
        if flow_id is None:
            break
        async with working(desk, [flow]):
            assert await client_of(desk).result(flow, flow_id) == Number(expected), calls
    else:
        pytest.fail("there was always another call")
    await check_logs(desk)


@pytest.mark.parametrize("every", EVERY)
@pytest.mark.parametrize("time", TIMES)
@pytest.mark.parametrize("name", FLOWS)
async def test_a_program_that_is_interrupted_at_any_call_leaves_nothing_held(
    desk: Desk, name: str, time: str, every: int
) -> None:
    flow, expected = FLOWS[name]
    for calls in some_calls(desk, name, every, time):
        flow_id = await submit(desk, flow, 3)

        async def interrupt() -> None:
            running.cancel()  # noqa: B023  # it is of this round

        moment = Moment(calls, interrupt, after=time == TIMES[1])
        store = MortalStore(desk.store, moment)
        engine: Any = FlowEngine(store, InMemoryFlowRepository(desk.store), flow)
        running = asyncio.create_task(engine.run_to_end(flow_id))
        await asyncio.wait([running])
        if not moment.over.is_set():
            assert running.result() == flow_id
            break
        for each in {event.flow_id for event in await desk.store.read_feed(limit=1_000_000)}:
            row = await desk.row(each)
            assert row is None or row.lease is None, calls
        async with working(desk, [flow]):
            assert await client_of(desk).result(flow, flow_id) == Number(expected), calls
    else:
        pytest.fail("there was always another call")
    await check_logs(desk)
