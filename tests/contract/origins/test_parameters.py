"""Flows with other parameters than those of the program, on every store."""

import re
from typing import Any

import msgspec
import pytest

from chem_persistence import (
    DefinitionMismatch,
    Flow,
    FlowEngine,
    InMemoryFlowRepository,
    InvalidArgument,
    Step,
    StepContext,
    flow,
    flow_page,
)
from chem_persistence.engine.parameters.served import ServedFlows
from tests.support.flows.flows import new_flow_id
from tests.support.leases.desk import Desk
from tests.support.leases.families import Add
from tests.support.leases.staff import Number, client_of, working


class AddParams(msgspec.Struct, frozen=True):
    amount: int = 1


class Plus(Step[Number, Number]):
    id = "plus"
    params: AddParams = AddParams()

    async def run(self, number: Number, _context: StepContext) -> Number:
        return Number(number.n + self.params.amount)


class Times(Step[Number, Number]):
    id = "times"
    params: AddParams = AddParams(2)

    async def run(self, number: Number, _context: StepContext) -> Number:
        return Number(number.n * self.params.amount)


SUM: Flow[Number, Number] = flow("sum", Plus()).then(Times())


def engine(desk: Desk) -> FlowEngine[Number]:
    return FlowEngine(desk.store, InMemoryFlowRepository(desk.store), SUM)


async def output(desk: Desk, runner: FlowEngine[Number], flow_id: Any) -> Any:
    last = (await runner.load(flow_id)).steps[-1].outputs[0]
    return (await desk.store.get_artifact(last)).payload["n"]


async def test_an_engine_runs_a_flow_with_parameters_and_knows_it_from_then_on(desk: Desk) -> None:
    runner = engine(desk)
    flow_id = await runner.run_to_end(input=Number(1), params={"plus": {"amount": 4}})
    assert await output(desk, runner, flow_id) == 10
    assert await output(desk, runner, await runner.run_to_end(input=Number(1))) == 4
    changed = SUM.with_params({"plus": {"amount": 4}})
    other = FlowEngine(desk.store, InMemoryFlowRepository(desk.store), changed)
    assert await runner.flow_fingerprint(flow_id) == await other.flow_fingerprint(flow_id)
    (first, *_) = await desk.store.list(flow_id)
    assert first.metadata["parameters"] == {"plus.amount": "submission"}
    with pytest.raises(DefinitionMismatch, match=r"params\.amount"):
        await engine(desk).run_to_end(flow_id)


async def test_nothing_is_stored_if_a_parameter_is_refused(desk: Desk) -> None:
    flow_id = new_flow_id()
    for params in ({"plus": {"amount": "4"}}, {"plus": {"amonut": 4}}, {"minus": {"amount": 4}}):
        with pytest.raises(InvalidArgument, match="params"):
            await engine(desk).run_to_end(flow_id, Number(1), params=params)
        with pytest.raises(InvalidArgument, match="params"):
            await client_of(desk).submit(SUM, Number(1), flow_id=flow_id, params=params)
    assert await desk.store.list(flow_id) == []


async def test_a_worker_serves_flows_with_parameters_that_it_was_not_given(desk: Desk) -> None:
    client = client_of(desk)
    async with working(desk, [SUM]):
        for amount in (5, 6):
            params = {"plus": {"amount": amount}}
            flow_id = await client.submit(SUM, Number(1), params=params)
            assert await client.result(SUM, flow_id) == Number(2 * (1 + amount))
            page = await flow_page(desk.store, flow_id)
            assert f"{amount}, set by the submission" in page


async def test_a_worker_that_starts_later_serves_them_too(desk: Desk) -> None:
    client = client_of(desk)
    flow_ids = await client.submit_many(
        SUM, [Number(1), Number(2)], params={"times": {"amount": 3}}
    )
    async with working(desk, [SUM]):
        assert [await client.result(SUM, each) for each in flow_ids] == [Number(6), Number(9)]


async def test_flows_of_other_steps_are_left_to_others(desk: Desk) -> None:
    other = flow("sum", Add(1, "plus"))
    flow_id = await client_of(desk).submit(other, Number(1))
    served = ServedFlows([SUM])
    assert other.definition_hash in served.heard
    await served.look(desk.leases, desk.store)
    assert list(served) == [SUM.definition_hash]
    assert other.definition_hash not in served.heard
    await client_of(desk).cancel(flow_id, reason="r")


async def test_of_many_parameters_those_found_last_are_served(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chem_persistence.engine.parameters.served.MOST_FOUND", 2)
    client, served = client_of(desk), ServedFlows([SUM])
    hashes = []
    for amount in (3, 4, 5):
        changed = SUM.with_params({"plus": {"amount": amount}})
        hashes.append(changed.definition_hash)
        await client.submit(changed, Number(1))
        assert changed.definition_hash in served.heard
        await served.look(desk.leases, desk.store)
    assert list(served) == [SUM.definition_hash, *hashes[1:]]


async def test_a_branch_has_the_parameters_of_its_parent_but_for_those_that_are_set(
    desk: Desk,
) -> None:
    client = client_of(desk)
    async with working(desk, [SUM]):
        parent = await client.submit(SUM, Number(1), params={"plus": {"amount": 4}})
        assert await client.result(SUM, parent) == Number(10)
        branch = await client.branch(parent, SUM, params={"times": {"amount": 5}}, reason="r")
        assert await client.result(SUM, branch) == Number(25)
    events = await desk.store.list(branch)
    assert [event.variant for event in events][:2] == ["I", "F"]
    assert events[0].metadata["parameters"] == {
        "plus.amount": "submission",
        "times.amount": "person",
    }


async def test_a_branch_with_other_parameters_needs_no_code(desk: Desk) -> None:
    client = client_of(desk)
    parent = await client.submit(SUM, Number(1), params={"plus": {"amount": 4}})
    async with working(desk, [SUM]):
        assert await client.result(SUM, parent) == Number(10)
        branch = await client.branch(parent, params={"times": {"amount": 5}}, reason="r")
        assert await client.result(SUM, branch) == Number(25)
        again = await client.branch(parent, from_step="plus", reason="r")
        assert await client.result(SUM, again) == Number(10)
    events = await desk.store.list(branch)
    assert "".join(event.variant for event in events) == "IFSFC"
    assert events[0].metadata["parameters"] == {
        "plus.amount": "submission",
        "times.amount": "person",
    }


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"params": {"plus": {"amuont": 5}}}, "step 'plus' has no parameter amuont; it has amount"),
        ({"params": {"plus": {"amount": "5"}}}, "of step 'plus': Expected `int | float`"),
        ({"params": {"minus": {}}}, "the flow has no step 'minus'"),
        ({"input": Number(2)}, "is for a flow whose code is given"),
        ({}, "no step of the flow differs"),
    ],
)
async def test_what_the_record_shows_to_be_wrong_is_refused(
    desk: Desk, options: dict[str, Any], reason: str
) -> None:
    client = client_of(desk)
    parent = await client.submit(SUM, Number(1))
    async with working(desk, [SUM]):
        await client.result(SUM, parent)
    with pytest.raises(InvalidArgument, match=re.escape(reason)):
        await client.branch(parent, **options, reason="r")
