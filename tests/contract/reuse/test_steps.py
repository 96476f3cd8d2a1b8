"""A step that asks for it takes over the result of an equal step instead of running."""

import logging
from collections import Counter
from typing import Any
from uuid import UUID

import msgspec
import pytest

from chem_persistence import (
    Ask,
    Flow,
    FlowEngine,
    FlowInitialized,
    InMemoryFlowRepository,
    InvalidArgument,
    InvalidDefinition,
    Step,
    StepContext,
    StepFinished,
    StepRaised,
    audit_flow,
    step,
)
from chem_persistence.domain.events import ResultOrigin
from chem_persistence.store.reuse.results import Result
from tests.support.flows.flows import new_flow_id
from tests.support.leases.desk import Desk
from tests.support.leases.staff import Number, chain, client_of, trace, working


class Count(Step[Number, Number]):
    """Counts up, and counts its runs."""

    reuse = "any"

    def __init__(self, runs: Counter[str], id: str, version: str = "1", **more: Any) -> None:  # noqa: A002
        self.runs = runs
        self.id = id
        self.version = version
        for name, value in more.items():
            setattr(self, name, value)

    async def run(self, number: Number, _context: StepContext) -> Number:
        self.runs[self.id] += 1
        if number.n < 0:
            raise ValueError("negative")
        return Number(number.n + 1)


@pytest.fixture
def runs() -> Counter[str]:
    return Counter()


def counting(runs: Counter[str], *versions: str) -> Flow[Number, Number]:
    """Return a flow of steps of these versions."""
    return chain(*(Count(runs, f"step {at}", version) for at, version in enumerate(versions)))


async def done(desk: Desk, flow: Flow[Number, Any], n: int = 0, **options: Any) -> UUID:
    """Submit a flow, and wait until a worker has completed it."""
    client = client_of(desk)
    async with working(desk, [flow]):
        flow_id = await client.submit(flow, Number(n), **options)
        await client.result(flow, flow_id)
    return flow_id


def engine_of(desk: Desk, flow: Flow[Any, Any]) -> FlowEngine[Any]:
    return FlowEngine(desk.store, InMemoryFlowRepository(desk.store), flow)


async def origins(desk: Desk, flow_id: UUID) -> list[ResultOrigin | None]:
    """Return where the results of a flow's steps come from."""
    facts = [event.kind for event in await desk.store.list(flow_id)]
    finished = [fact for fact in facts if isinstance(fact, StepFinished)]
    return [fact.reused_from or None for fact in finished]


async def test_a_second_flow_takes_all_results_over_and_starts_no_step(
    desk: Desk, runs: Counter[str]
) -> None:
    flow = counting(runs, "1", "1", "1")
    first, second = await done(desk, flow), await done(desk, flow)
    assert (await trace(desk, first), await trace(desk, second)) == ("ISFSFSFC", "IFFFC")
    assert runs == {"step 0": 1, "step 1": 1, "step 2": 1}
    assert await origins(desk, second) == [ResultOrigin(first, version) for version in (2, 4, 6)]
    assert await client_of(desk).result(flow, second) == Number(3)
    fingerprints = [await engine_of(desk, flow).flow_fingerprint(each) for each in (first, second)]
    assert fingerprints[0] == fingerprints[1]
    third = await done(desk, flow)
    assert await origins(desk, third) == await origins(desk, second)  # never a copy of a copy


async def test_a_program_without_worker_takes_over_as_well(desk: Desk, runs: Counter[str]) -> None:
    engine = engine_of(desk, counting(runs, "1", "1"))
    await engine.run_to_end(input=Number(0))
    second = await engine.run_to_end(input=Number(0))
    assert await trace(desk, second) == "IFFC"
    other = await engine.run_to_end(input=Number(5))
    assert await trace(desk, other) == "ISFSFC"
    assert runs == {"step 0": 2, "step 1": 2}


async def test_only_the_step_that_differs_runs(desk: Desk, runs: Counter[str]) -> None:
    await done(desk, counting(runs, "1", "1", "1"))
    changed = await done(desk, counting(runs, "1", "1", "2"))
    assert await trace(desk, changed) == "IFFSFC"
    middle = await done(desk, counting(runs, "1", "2", "1"))
    assert await trace(desk, middle) == "IFSFFC"  # its output was the same
    assert runs == {"step 0": 1, "step 1": 2, "step 2": 2}


async def test_a_step_that_does_not_ask_for_it_runs(desk: Desk, runs: Counter[str]) -> None:
    flow = chain(Count(runs, "a", reuse="never"), Count(runs, "b"))
    await done(desk, flow)
    assert await trace(desk, await done(desk, flow)) == "ISFFC"
    assert runs == {"a": 2, "b": 1}


async def test_a_submission_overrules_what_the_steps_ask_for(
    desk: Desk, runs: Counter[str]
) -> None:
    flow, client = counting(runs, "1"), client_of(desk)
    await done(desk, flow)
    again = await done(desk, flow, reuse=False)
    assert await trace(desk, again) == "ISFC"
    assert (await desk.store.list(again))[0].metadata["reuse"] == "never"
    assert await client.submit(flow, Number(0), flow_id=again, reuse=False) == again
    allowed = await done(desk, flow)
    assert await trace(desk, allowed) == "IFC"
    with pytest.raises(InvalidArgument, match="was submitted without that"):
        await client.submit(flow, Number(0), flow_id=allowed, reuse=False)


async def test_who_goes_on_with_a_flow_knows_that_it_takes_nothing_over(
    desk: Desk, runs: Counter[str]
) -> None:
    flow = counting(runs, "1", "1")
    engine = engine_of(desk, flow)
    await engine.run_to_end(input=Number(0))
    flow_id, other = new_flow_id(), engine_of(desk, flow)
    await engine.run_step(flow_id, Number(0), reuse=False)
    await other.run_to_end(flow_id)
    assert runs == {"step 0": 2, "step 1": 2}
    begun = new_flow_id()
    assert (await engine.run_step(begun, Number(0))).cursor == 1
    with pytest.raises(InvalidArgument, match="was started with reuse"):
        await other.run_to_end(begun, reuse=False)


async def test_a_step_that_was_begun_is_not_looked_up(desk: Desk, runs: Counter[str]) -> None:
    flow = chain(Count(runs, "a"))
    engine, flow_id = engine_of(desk, flow), new_flow_id()
    with pytest.raises(StepRaised):
        await engine.run_to_end(flow_id, Number(-1))
    await engine.schedule_retry(flow_id, reason="again")
    with pytest.raises(StepRaised):
        await engine.run_to_end(flow_id)
    assert await trace(desk, flow_id) == "ISXRSX"


async def test_the_results_of_a_flow_that_failed_are_results(
    desk: Desk, runs: Counter[str]
) -> None:
    class Fail(Count):
        async def run(self, _number: Number, _context: StepContext) -> Number:
            raise ValueError("always")

    failing, client = chain(Count(runs, "a"), Fail(runs, "b")), client_of(desk)
    async with working(desk, [failing]):
        first = await client.submit(failing, Number(0))
        await client.wait(first)
    second = await done(desk, chain(Count(runs, "a")))
    assert await origins(desk, second) == [ResultOrigin(first, 2)]


async def test_a_result_that_was_invalidated_is_worked_out_again(
    desk: Desk, runs: Counter[str]
) -> None:
    flow, client = counting(runs, "1", "1"), client_of(desk)
    first, second = await done(desk, flow), await done(desk, flow)
    assert await client.invalidate(first, "step 0", reason="wrong units", actor="Ada") is True
    assert await client.invalidate(first, "step 0", reason="again", actor="Bob") is False
    said = (await desk.store.list(first))[-1]
    assert (said.kind.data, said.metadata) == ({"reason": "wrong units"}, {"actor": "Ada"})  # type: ignore[union-attr]
    third = await done(desk, flow)
    assert await trace(desk, third) == "ISFFC"  # its output is the same as before
    assert await origins(desk, await done(desk, flow)) == [
        ResultOrigin(third, 2),
        ResultOrigin(first, 4),
    ]
    assert [each.flow_id for each in await desk.store.taken_over(first)][:2] == [second, second]
    with pytest.raises(InvalidArgument, match=f"over from flow {first}: invalidate it there"):
        await client.invalidate(second, "step 0", reason="no", actor="Ada")
    with pytest.raises(InvalidArgument, match="has no result"):
        await client.invalidate(second, "step 9", reason="no", actor="Ada")


async def test_many_flows_are_looked_up_together(
    desk: Desk, runs: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    flow, client, asked = counting(runs, "1", "1"), client_of(desk), []
    find = desk.store.find_results

    async def find_results(fingerprints: Any, *, most: int = 1) -> Any:
        asked.append(len(fingerprints))
        return await find(fingerprints, most=most)

    monkeypatch.setattr(desk.store, "find_results", find_results)
    flow_ids: list[UUID] = []
    for _ in range(2):
        flow_ids = await client.submit_many(flow, [Number(10 * n) for n in range(20)])
        async with working(desk, [flow]):
            for flow_id in flow_ids:
                await client.wait(flow_id)
    assert {await trace(desk, flow_id) for flow_id in flow_ids} == {"IFFC"}
    assert asked[-2:] == [20, 20]
    assert runs == {"step 0": 20, "step 1": 20}


async def test_the_slots_that_a_step_would_use_are_not_waited_for(
    desk: Desk, runs: Counter[str]
) -> None:
    flow, client = chain(Count(runs, "a", uses={"license": 1})), client_of(desk)
    await done(desk, flow)
    await client.set_limit("license", 1)
    slots = desk.leases.slots  # type: ignore[attr-defined]
    assert (await slots.take(await desk.submit(), 0, {"license": 1})).pause is None
    assert await trace(desk, await done(desk, flow)) == "IFC"


async def test_an_audit_works_out_what_was_taken_over(desk: Desk, runs: Counter[str]) -> None:
    flow = counting(runs, "1", "1")
    await done(desk, flow)
    second = await done(desk, flow)
    audit = await audit_flow(desk.store, flow, second)
    assert audit.agreement == "bit-equal"
    assert runs == {"step 0": 2, "step 1": 2}


async def test_a_branch_of_a_flow_that_takes_nothing_over_does_not_either(
    desk: Desk, runs: Counter[str]
) -> None:
    flow, client = counting(runs, "1", "1"), client_of(desk)
    await done(desk, flow)
    parent = await done(desk, flow, reuse=False)
    other = await client.branch(parent, flow, from_step="step 1", reason="again")
    async with working(desk, [flow]):
        await client.result(flow, other)
    assert await trace(desk, other) == "IFSFC"
    assert runs == {"step 0": 2, "step 1": 3}


class Verdict(msgspec.Struct):
    good: bool


class Review(Ask[Number, Verdict, Number]):
    id = "review"
    answer = Verdict

    def question(self, number: Number) -> str:
        return f"Is {number.n} good?"

    def decide(self, number: Number, _answer: Verdict) -> Number:
        return number


def test_what_a_step_cannot_ask_for_is_refused(runs: Counter[str]) -> None:
    asks = Review()
    asks.reuse = "any"
    with pytest.raises(InvalidDefinition, match="asks a person"):
        chain(asks)
    with pytest.raises(InvalidDefinition, match="'never' or 'any', not 'sometimes'"):
        chain(Count(runs, "a", reuse="sometimes"))


async def test_a_function_asks_for_it_by_its_decorator(desk: Desk) -> None:
    ran: list[int] = []

    @step("double", reuse="any")
    async def double(number: Number) -> Number:
        ran.append(number.n)
        return Number(2 * number.n)

    engine = engine_of(desk, chain(double))
    for _ in range(2):
        await engine.run_to_end(input=Number(4))
    assert ran == [4]


async def test_neither_attribute_nor_wish_is_hashed(runs: Counter[str]) -> None:
    asking, other = chain(Count(runs, "a")), chain(Count(runs, "a", reuse="never"))
    assert asking.definition_hash == other.definition_hash
    assert "reuse" not in FlowInitialized.__struct_fields__


async def test_a_result_whose_artifact_is_corrupt_is_not_taken_over(
    desk: Desk,
    runs: Counter[str],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    flow, store = counting(runs, "1"), desk.store
    first = await done(desk, flow)
    find = store.find_results
    (event,) = [event for event in await store.list(first) if event.variant == "F"]
    bad = Result(ResultOrigin(new_flow_id(), 7), ("c" * 64,))  # of which no artifact is stored

    async def find_results(fingerprints: Any, *, most: int = 1) -> Any:
        found = await find(fingerprints, most=most)
        return {each: [bad, *results] for each, results in found.items()}

    monkeypatch.setattr(store, "find_results", find_results)
    caplog.set_level(logging.WARNING, "chem_persistence.reuse")
    second = await done(desk, flow)
    assert await origins(desk, second) == [ResultOrigin(first, event.version)]
    assert f"flow {bad.origin.flow_id}, event 7, is not taken over" in caplog.text
