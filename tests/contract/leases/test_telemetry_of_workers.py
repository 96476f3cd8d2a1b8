"""What workers count, on every store."""

import asyncio
from collections.abc import Iterator

import pytest

from chem_persistence import StepStarted
from tests.support.faults.watching import Heard, watching
from tests.support.leases.desk import HOUR, Desk
from tests.support.leases.staff import Act, Acts, chain, submit, until, working


@pytest.fixture
def heard() -> Iterator[Heard]:
    with watching() as heard:
        yield heard


async def test_claims_take_overs_and_steps_are_counted_by_definition(
    desk: Desk, heard: Heard
) -> None:
    flow = chain(Act(Acts(), "one"), Act(Acts(), "two"))
    fresh, left = await submit(desk, flow), await submit(desk, flow)
    await desk.store.append_kind(left, StepStarted(0, "one"))
    async with working(desk, [flow]):
        for flow_id in (fresh, left):
            await until(desk, flow_id, lambda events: events[-1].variant == "C")
    name = flow.definition_hash
    assert heard.values("chem_persistence.worker.claims") == {(name,): 2}
    assert heard.values("chem_persistence.worker.take_overs") == {(name,): 1}
    assert heard.values("chem_persistence.worker.lease_losses") == {}
    assert heard.values("chem_persistence.step.duration") == {(name, "one"): 2, (name, "two"): 2}


async def test_a_lost_lease_is_counted(desk: Desk, heard: Heard) -> None:
    acts = Acts()
    acts.held = frozenset({"act"})
    flow = chain(Act(acts))
    flow_id = await submit(desk, flow)
    async with working(desk, [flow], at_once=1, lease=HOUR) as worker:
        await acts.begun.wait()
        await desk.make_due(flow_id)
        await desk.take(flow_id)
        acts.may_end.set()
        while worker._running:
            await asyncio.sleep(0.005)
    assert heard.values("chem_persistence.worker.lease_losses") == {(flow.definition_hash,): 1}
