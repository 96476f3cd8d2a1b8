"""Flows whose steps run other flows, by workers and in a program, on every store."""

import pytest

from chem_persistence import (
    Flow,
    FlowEngine,
    FlowHasFailed,
    InMemoryFlowRepository,
    Many,
    flow,
)
from tests.support.leases.desk import Desk
from tests.support.leases.families import (
    Add,
    Difference,
    Picky,
    Sum,
    children_of,
    listed,
    mapped,
)
from tests.support.leases.staff import Number, client_of, submit, trace, working

ONE, TWO = flow("one", Add(1)), flow("two", Add(2))


def parity(number: Number) -> str:
    return "odd" if number.n % 2 else "even"


FLOWS: dict[str, tuple[Flow[Number, Number], int, int]] = {
    "call": (flow("a", Add(10, "first")).call(ONE), 1, 12),
    "gather": (flow("b", Add(10, "first")).gather(ONE, TWO).then(Difference()), 5, 1),
    "choose odd": (flow("c", Add(10, "first")).choose(parity, {"odd": ONE, "even": TWO}), 1, 12),
    "choose even": (flow("c", Add(10, "first")).choose(parity, {"odd": ONE, "even": TWO}), 2, 14),
    "repeat": (flow("d", Add(0, "first")).repeat(ONE, until=lambda n: n.n > 4, limit=9), 1, 5),
    "map": (mapped(Picky()), 4, 60),
    "nothing to map": (mapped(Picky()), 0, 0),
    "nested": (flow("e", Add(0, "first")).call(mapped(Picky())).call(ONE), 3, 31),
}


@pytest.mark.parametrize("name", FLOWS)
async def test_a_worker_runs_the_flows_of_steps(desk: Desk, name: str) -> None:
    parent, given, expected = FLOWS[name]
    flow_id = await submit(desk, parent, given)
    async with working(desk, [parent]):
        assert await client_of(desk).result(parent, flow_id) == Number(expected)
    assert await desk.row(flow_id) is None


@pytest.mark.parametrize("name", FLOWS)
async def test_a_program_runs_the_flows_of_steps_by_itself(desk: Desk, name: str) -> None:
    parent, given, expected = FLOWS[name]
    engine = FlowEngine(desk.store, InMemoryFlowRepository(desk.store), parent)
    flow_id = await engine.run_to_end(input=Number(given))
    output = (await engine.load(flow_id)).steps[-1].outputs[0]
    assert parent.read_output(await desk.store.get_artifact(output)) == Number(expected)


@pytest.mark.parametrize("name", FLOWS)
async def test_workers_and_a_program_come_to_the_same_fingerprint(desk: Desk, name: str) -> None:
    parent, given, _ = FLOWS[name]
    engine = FlowEngine(desk.store, InMemoryFlowRepository(desk.store), parent)
    own = await engine.run_to_end(input=Number(given))
    flow_id = await submit(desk, parent, given)
    async with working(desk, [parent]):
        await client_of(desk).wait(flow_id)
    assert await engine.flow_fingerprint(flow_id) == await engine.flow_fingerprint(own)


async def test_a_program_runs_a_flow_that_was_given_to_workers_with_its_children(
    desk: Desk,
) -> None:
    parent = mapped(Picky())
    flow_id = await submit(desk, parent, 5)
    await FlowEngine(desk.store, InMemoryFlowRepository(desk.store), parent).run_to_end(flow_id)
    assert await client_of(desk).result(parent, flow_id) == Number(100)


async def test_a_parent_waits_with_one_event_whatever_the_number_of_children(desk: Desk) -> None:
    parent = mapped(Picky(), at_once=2)
    flow_id = await submit(desk, parent, 9)
    async with working(desk, [parent]):
        assert await client_of(desk).result(parent, flow_id) == Number(360)
    assert await trace(desk, flow_id) == "ISFSWFSFC"
    children = await children_of(desk, flow_id, 1, 20)
    assert len(children) == 9
    assert {await trace(desk, child) for child in children} == {"ISFC"}


async def test_the_outputs_of_a_map_are_in_the_order_of_the_items(desk: Desk) -> None:
    parent = listed().map(flow("item", Picky()))
    flow_id = await submit(desk, parent, 7)
    async with working(desk, [parent]):
        many = await client_of(desk).result(parent, flow_id)
    assert many == Many(tuple(Number(10 * n) for n in range(7)))


# ---- children that fail


async def test_failures_within_the_share_are_tolerated_and_named(desk: Desk) -> None:
    parent = listed().map(flow("item", Picky({1, 3})), failures=0.5)
    flow_id = await submit(desk, parent, 5)
    async with working(desk, [parent]):
        many = await client_of(desk).result(parent, flow_id)
    assert many == Many((Number(0), Number(20), Number(40)), (1, 3))


async def test_more_failures_fail_the_step_and_say_why(desk: Desk) -> None:
    parent = mapped(Picky({1, 3}), failures=0.2)
    flow_id = await submit(desk, parent, 5)
    async with working(desk, [parent]):
        with pytest.raises(FlowHasFailed) as caught:
            await client_of(desk).result(parent, flow_id)
    assert caught.value.error_class == "chem_persistence.ChildrenFailed"
    assert "2 of 5 flows have failed or were cancelled, 1 are tolerated" in caught.value.reason
    assert "failed at step 'picky' with builtins.ValueError: not 1" in caught.value.reason


async def test_a_retry_of_the_parent_retries_the_failed_children_alone(desk: Desk) -> None:
    picky = Picky({1, 3})
    parent, client = mapped(picky), client_of(desk)
    flow_id = await submit(desk, parent, 5)
    async with working(desk, [parent]):
        with pytest.raises(FlowHasFailed):
            await client.result(parent, flow_id)
        for child in await children_of(desk, flow_id, 1, 5):
            await client.wait(child)
        picky.bad.clear()
        await client.retry(flow_id, reason="mended")
        assert await client.result(parent, flow_id) == Number(100)
    assert picky.runs == {0: 1, 1: 2, 2: 1, 3: 2, 4: 1}


async def test_a_loop_that_does_not_converge_fails(desk: Desk) -> None:
    parent = flow("d", Add(0, "first")).repeat(ONE, until=lambda n: n.n > 99, limit=3)
    flow_id = await submit(desk, parent, 0)
    async with working(desk, [parent]):
        with pytest.raises(FlowHasFailed) as caught:
            await client_of(desk).result(parent, flow_id)
    assert caught.value.error_class == "chem_persistence.NotConverged"
    assert len(await children_of(desk, flow_id, 1, 9)) == 3


async def test_a_branch_that_is_not_there_fails_the_step(desk: Desk) -> None:
    parent = flow("c", Add(0, "first")).choose(parity, {"odd": ONE})
    flow_id = await submit(desk, parent, 2)
    async with working(desk, [parent]):
        with pytest.raises(FlowHasFailed, match="returned 'even': its flows are 'odd'"):
            await client_of(desk).result(parent, flow_id)


def test_steps_of_flows_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="takes Many"):
        flow("a", Add(1)).map(ONE)  # type: ignore[arg-type, misc]
    with pytest.raises(ValueError, match="two steps have the id 'one'"):
        flow("a", Add(1)).call(ONE).call(ONE)
    assert flow("a", Add(1)).call(ONE).call(ONE, id="again").steps[-1].id == "again"
    assert [each.name for each in listed().map(flow("x", Add(1)).call(ONE)).then(Sum()).inner] == [
        "x",
        "one",
    ]
