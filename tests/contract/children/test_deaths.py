"""Parents and children whose worker dies at any of its calls to the store: another one goes on."""

from collections import Counter
from typing import Any

import pytest

from chem_persistence import Flow, FlowState, StepFinished, flow
from tests.support.faults.mortal_store import Life
from tests.support.leases.deaths import worked_until_death
from tests.support.leases.desk import HOUR, Desk
from tests.support.leases.families import Add, Picky, mapped
from tests.support.leases.staff import Number, client_of, submit, working

MOST_CALLS = 400

ONE = flow("one", Add(1))
PARENTS: dict[str, tuple[Flow[Number, Number], Number]] = {
    "map": (mapped(Picky(), at_once=2), Number(30)),
    "gather and repeat": (
        flow("a", Add(0, "first"))
        .call(ONE)
        .repeat(ONE, id="loop", until=lambda number: number.n > 5, limit=9),
        Number(6),
    ),
}


async def make_held_flows_due(desk: Desk) -> None:
    for flow_id in {event.flow_id for event in await desk.store.read_feed(limit=1_000_000)}:
        row = await desk.row(flow_id)
        if row is not None:
            await desk.make_due(flow_id)


@pytest.mark.parametrize("name", PARENTS)
async def test_whatever_a_dead_worker_has_left_another_one_completes_it(
    desk: Desk, name: str
) -> None:
    parent, expected = PARENTS[name]
    stride = 1 if desk.name == "memory" else 4
    for calls in range(1, MOST_CALLS, stride):
        flow_id = await submit(desk, parent, 3)
        client, life = client_of(desk), Life(calls)
        await worked_until_death(desk, [parent], life, client.wait(flow_id))
        lived = not life.over.is_set()
        await make_held_flows_due(desk)
        async with working(desk, [parent]):
            assert await client.result(parent, flow_id) == expected, calls
        if lived:
            break
    else:
        pytest.fail("the worker never had enough calls")
    await check_logs(desk)


async def test_a_step_that_runs_flows_survives_more_dead_workers_than_another(desk: Desk) -> None:
    parent, expected = PARENTS["map"]
    async with working(desk, [parent]):
        done = await submit(desk, parent, 3)
        assert await client_of(desk).result(parent, done) == expected
        _, started, listed, begun = (event.kind for event in await desk.store.list(done, limit=4))
        assert isinstance(listed, StepFinished)
        items = [await desk.store.get_artifact(each) for each in listed.outputs]
        for deaths, becomes in ((99, FlowState.COMPLETED), (100, FlowState.FAILED)):
            flow_id = await submit(desk, parent, 3, due_in=HOUR)
            kinds = [started, listed, *[begun] * deaths]
            await desk.store.append_kinds(flow_id, kinds, artifacts=items, expected_version=1)
            await desk.make_due(flow_id)
            assert await client_of(desk).wait(flow_id) is becomes


async def check_logs(desk: Desk) -> None:
    """Check that each flow has ended once, and each of its steps as well."""
    logs: dict[Any, list[Any]] = {}
    for event in await desk.store.read_feed(limit=1_000_000):
        logs.setdefault(event.flow_id, []).append(event)
    assert len(logs) > 4
    for events in logs.values():
        variants = Counter(event.variant for event in events)
        assert [event.version for event in events] == list(range(len(events)))
        assert (variants["I"], variants["C"], variants["X"]) == (1, 1, 0)
        steps = [event.kind.step_index for event in events if event.variant == "F"]
        assert steps == sorted(set(steps))
