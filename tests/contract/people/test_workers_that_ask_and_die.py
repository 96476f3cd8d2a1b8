"""Workers die at each of their calls to the store: a question is asked and answered once."""

from collections import Counter
from uuid import UUID

import pytest

from tests.contract.people.test_questions_to_people import Hurried, Verdict, asked, reviewed
from tests.support.faults.mortal_store import Life
from tests.support.leases.deaths import worked_until_death
from tests.support.leases.desk import Desk
from tests.support.leases.staff import Number, client_of, submit, working

MOST_CALLS = 60


async def end_lease(desk: Desk, flow_id: UUID) -> None:
    """Make the flow due if a dead worker still holds it."""
    row = await desk.row(flow_id)
    if row is not None and row.lease is not None:
        await desk.make_due(flow_id)


@pytest.mark.parametrize("by_default", [True, False])
async def test_a_question_survives_the_death_of_its_worker_at_every_call(
    desk: Desk, *, by_default: bool
) -> None:
    gate, client = reviewed(Hurried(3_600)), client_of(desk)
    stride = 1 if desk.name == "memory" else 3
    for calls in range(1, MOST_CALLS, stride):
        flow_id = await submit(desk, gate, 1)
        first, second = Life(calls), Life(calls)
        await worked_until_death(desk, [gate], first, asked(desk, flow_id))
        await end_lease(desk, flow_id)
        async with working(desk, [gate]):
            await asked(desk, flow_id)
        if by_default:
            await desk.make_due(flow_id)
        else:
            await client.answer(flow_id, "review", Verdict(accept=True, more=5), actor="Ada")
        await worked_until_death(desk, [gate], second, client.wait(flow_id))
        await end_lease(desk, flow_id)
        async with working(desk, [gate]):
            assert await client.result(gate, flow_id) == Number(102 if by_default else 7)
        events = await desk.store.list(flow_id)
        variants = Counter(event.variant for event in events if event.variant != "S")
        assert variants == {"I": 1, "U": 1, "V": 1, "F": 2, "C": 1}
        if not first.over.is_set() and not second.over.is_set():
            break
    else:
        pytest.fail("the worker never had enough calls")
