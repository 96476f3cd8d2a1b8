"""A worker that dies at any call of its store has taken results over once, or not at all."""

from collections import Counter

import pytest

from tests.contract.children.test_deaths import make_held_flows_due
from tests.contract.reuse.test_children import screen
from tests.contract.reuse.test_steps import Count, done, origins, runs
from tests.support.faults.mortal_store import Life
from tests.support.leases.deaths import worked_until_death
from tests.support.leases.desk import Desk
from tests.support.leases.families import children_of
from tests.support.leases.staff import chain, client_of, submit, trace, working

__all__ = ["runs"]

MOST_CALLS = 100


@pytest.mark.parametrize("name", ["flow", "children"])
async def test_whatever_a_dead_worker_has_left_another_one_takes_over_the_rest(
    desk: Desk, runs: Counter[str], name: str
) -> None:
    if name == "flow":
        flow, before = chain(*(Count(runs, f"step {at}") for at in range(3))), 0
        expected = "IFFFC"
    else:
        flow, before = screen(runs, "1", at_once=2), 4  # a list that has grown by one
        expected = "ISFSWFSFC"
    await done(desk, flow, before)
    first = runs.copy()
    number = before + (name == "children")
    stride = 1 if desk.name == "memory" else 6
    for calls in range(1, MOST_CALLS, stride):
        flow_id = await submit(desk, flow, number)
        life = Life(calls)
        await worked_until_death(desk, [flow], life, client_of(desk).wait(flow_id))
        lived = not life.over.is_set()
        await make_held_flows_due(desk)
        async with working(desk, [flow]):
            await client_of(desk).result(flow, flow_id)
        if name == "flow":
            assert await trace(desk, flow_id) == expected, calls
            assert all(await origins(desk, flow_id))
        else:
            finished = Counter(await trace(desk, flow_id))
            assert (finished["F"], finished["C"], finished["X"]) == (3, 1, 0)
            traces = [await trace(desk, each) for each in await children_of(desk, flow_id, 1, 5)]
            assert traces[:4] == ["IFC"] * 4, calls
        if lived:
            break
    else:
        pytest.fail("the worker never had enough calls")
    assert runs["step 0"] == first["step 0"]
