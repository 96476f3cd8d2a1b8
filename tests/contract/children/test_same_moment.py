"""Children of which one fails, one is cancelled and others complete, all at the same moment."""

import asyncio

import pytest

from chem_persistence import (
    FlowHasFailed,
    FlowState,
    Many,
    Step,
    StepContext,
    flow,
)
from chem_persistence.store.leasing.children import child_id
from tests.support.leases.desk import Desk
from tests.support.leases.families import listed
from tests.support.leases.staff import Number, client_of, submit, trace, until, working

FAILS, CANCELLED, CHILDREN = 0, 1, 6
MAP_STEP = 1


class Together(Step[Number, Number]):
    """Ends when all of its runs may: one with an error, and one after its flow was cancelled."""

    id = "together"

    def __init__(self) -> None:
        self.begun = 0
        self.may_end = asyncio.Event()
        self.is_cancelled = asyncio.Event()

    async def run(self, number: Number, _context: StepContext) -> Number:
        self.begun += 1
        await self.may_end.wait()
        if number.n == FAILS:
            raise ValueError("it fails")
        if number.n == CANCELLED:
            await self.is_cancelled.wait()
        return number


@pytest.mark.parametrize("failures", [0.5, 0.2])
async def test_children_that_end_in_every_way_at_the_same_moment_wake_their_parent(
    desk: Desk, failures: float
) -> None:
    step, client = Together(), client_of(desk)
    parent = listed().map(flow("item", step), failures=failures)
    flow_id = await submit(desk, parent, CHILDREN)
    children = [child_id(flow_id, MAP_STEP, item) for item in range(CHILDREN)]
    # two workers, so that not all appends and calls are of one process
    async with working(desk, [parent]), working(desk, [parent]):
        while step.begun < CHILDREN:
            await asyncio.sleep(0.005)
        await until(desk, flow_id, lambda events: events[-1].variant == "W")
        step.may_end.set()
        await client.cancel(children[CANCELLED], reason="not this one")
        step.is_cancelled.set()
        if failures == 0.5:
            whole = tuple(Number(n) for n in range(2, CHILDREN))
            assert await client.result(parent, flow_id) == Many(whole, (FAILS, CANCELLED))
        else:
            with pytest.raises(FlowHasFailed, match="2 of 6"):
                await client.result(parent, flow_id)
        states = [await client.wait(child) for child in children]
    assert states == [FlowState.FAILED, FlowState.CANCELLED, *[FlowState.COMPLETED] * 4]
    assert [await trace(desk, child) for child in children] == ["ISX", "ISK", *["ISFC"] * 4]
    assert await trace(desk, flow_id) == ("ISFSWFC" if failures == 0.5 else "ISFSWX")
