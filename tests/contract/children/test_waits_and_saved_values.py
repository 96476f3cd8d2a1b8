"""Steps that return a `Wait`, and steps that save values, on every store."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from chem_persistence import (
    Artifact,
    BlockingStep,
    Flow,
    FlowEngine,
    InMemoryFlowRepository,
    InvalidArgument,
    InvalidPayload,
    RetryPolicy,
    Step,
    StepContext,
    StepSignal,
    Wait,
    flow,
)
from chem_persistence.domain.events import SAVED
from tests.support.flows.process_steps import Both, Relax
from tests.support.leases.desk import Desk
from tests.support.leases.staff import Number, client_of, submit, trace, until, working

HOUR = timedelta(hours=1)


class Poll(Step[Number, Number]):
    """Waits as the test says, one wait after the other, and counts by its memory."""

    id = "poll"

    def __init__(self, *waits: timedelta | None) -> None:
        self.waits = waits
        self.seen: list[Any] = []

    async def run(self, number: Number, context: StepContext) -> Number | Wait:
        self.seen.append(context.data)
        polls = len(self.seen)
        if polls <= len(self.waits):
            context.signal("polled", polls)
            return Wait(self.waits[polls - 1], {"polls": polls})
        return Number(number.n + polls)


def engine_of(desk: Desk, parent: Flow[Number, Any]) -> FlowEngine[Number]:
    return FlowEngine(desk.store, InMemoryFlowRepository(desk.store), parent)


async def test_a_step_that_waits_begins_anew_with_what_it_kept(desk: Desk) -> None:
    poll = Poll(timedelta(0), timedelta(milliseconds=5))
    polled = flow("polled", poll)
    flow_id = await submit(desk, polled, 1)
    async with working(desk, [polled]):
        assert await client_of(desk).result(polled, flow_id) == Number(4)
    assert poll.seen == [None, {"polls": 1}, {"polls": 2}]
    assert await trace(desk, flow_id) == "ISGWSGWSFC"


async def test_a_program_waits_for_the_time_of_a_step(desk: Desk) -> None:
    poll = Poll(timedelta(0), timedelta(milliseconds=5))
    flow_id = await engine_of(desk, flow("polled", poll)).run_to_end(input=Number(1))
    assert poll.seen == [None, {"polls": 1}, {"polls": 2}]
    assert await trace(desk, flow_id) == "ISGWSGWSFC"


async def test_a_step_that_waits_for_an_event_holds_nothing_until_it_comes(desk: Desk) -> None:
    polled = flow("polled", Poll(None))
    flow_id = await submit(desk, polled, 1)
    async with working(desk, [polled], at_once=1):
        await until(desk, flow_id, lambda events: events[-1].variant == "W")
        row = await desk.seen(flow_id)
        assert (row.due, row.lease) == ("never", None)
        await desk.store.append_kind(flow_id, StepSignal(0, "poll", "ready"))
        assert await client_of(desk).result(polled, flow_id) == Number(3)


async def test_a_step_keeps_the_time_until_which_it_waits(desk: Desk) -> None:
    polled = flow("polled", Poll(2 * HOUR))
    flow_id = await submit(desk, polled, 1)
    async with working(desk, [polled]):
        await until(desk, flow_id, lambda events: events[-1].variant == "W")
    assert (await desk.seen(flow_id)).due == "in 2 h"
    await desk.make_due(flow_id)
    async with working(desk, [polled]):
        assert await client_of(desk).result(polled, flow_id) == Number(3)


def test_a_time_to_wait_for_is_checked() -> None:
    assert Wait(datetime(2026, 1, 1, tzinfo=UTC)).data is None
    with pytest.raises(InvalidArgument, match="time zone"):
        Wait(datetime(2026, 1, 1))  # noqa: DTZ001
    with pytest.raises(InvalidArgument, match="negative"):
        Wait(timedelta(seconds=-1))


# ---- saved values


class Settle(Step[Number, Number]):
    """Goes on from the value that it has saved, and fails once on the way."""

    id = "relax"
    retry = RetryPolicy(attempts=2, first=timedelta(0))

    def __init__(self) -> None:
        self.found: list[Number | None] = []

    async def run(self, number: Number, context: StepContext) -> Number:
        saved = await context.saved(Number)
        self.found.append(saved)
        reached = Number((saved or number).n + 1)
        await context.save(reached)
        await context.save(Number(reached.n + 1))
        if saved is None:
            raise ValueError("once")
        return reached


class RelaxInThread(BlockingStep[Number, Number]):
    id = "relax"

    def compute(self, number: Number, context: StepContext) -> Number:
        assert context.saved_blocking(Number) is None
        context.save_blocking(Artifact.from_content(kind="Text", content=b"x", media_type="a/b"))
        saved = context.saved_blocking(Artifact)
        assert saved is not None
        assert saved.content == b"x"
        return number


async def test_a_retry_goes_on_from_what_was_saved_last(desk: Desk) -> None:
    relax = Settle()
    relaxed = flow("relaxed", relax)
    flow_id = await submit(desk, relaxed, 1)
    async with working(desk, [relaxed]):
        assert await client_of(desk).result(relaxed, flow_id) == Number(4)
    assert relax.found == [None, Number(3)]
    assert await trace(desk, flow_id) == "ISGGXRSGGFC"
    saved = [event.kind for event in await desk.store.list(flow_id) if event.variant == "G"]
    assert {kind.signal for kind in saved if isinstance(kind, StepSignal)} == {SAVED}


async def test_saved_values_change_no_fingerprint(desk: Desk) -> None:
    engine = engine_of(desk, flow("relaxed", Settle()))
    first, second = (
        await engine.run_to_end(input=Number(1)),
        await engine.run_to_end(input=Number(1)),
    )
    assert await engine.flow_fingerprint(first) == await engine.flow_fingerprint(second)


async def test_a_step_in_a_thread_saves_and_reads_artifacts(desk: Desk) -> None:
    flow_id = await engine_of(desk, flow("relaxed", RelaxInThread())).run_to_end(input=Number(1))
    assert await trace(desk, flow_id) == "ISGFC"


class ReadsOther(Step[Number, Number]):
    id = "relax"

    async def run(self, number: Number, context: StepContext) -> Number:
        await context.save({"m": 1})
        with pytest.raises(InvalidPayload):
            await context.saved(Number)
        return number


async def test_a_saved_value_of_another_type_is_not_read(desk: Desk) -> None:
    await engine_of(desk, flow("relaxed", ReadsOther())).run_to_end(input=Number(1))


async def test_a_step_in_a_process_goes_on_from_what_it_has_saved(desk: Desk) -> None:
    relaxed = flow("relaxed", Relax())
    engine = FlowEngine(desk.store, InMemoryFlowRepository(desk.store), relaxed)
    flow_id = await engine.run_to_end(input=Both(1.0, [1e19]))
    assert await trace(desk, flow_id) == "ISGXRSGFC"
    output = (await engine.load(flow_id)).steps[0].outputs[0]
    assert relaxed.read_output(await desk.store.get_artifact(output)) == Both(2.0, [1e19])
