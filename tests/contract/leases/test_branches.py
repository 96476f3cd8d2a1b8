"""A branch takes over the results of a flow up to a step, and runs the rest, on every store."""

import asyncio
from typing import Any
from uuid import UUID

import pytest

from chem_persistence import (
    BranchCreated,
    Flow,
    FlowInitialized,
    FlowNotFound,
    InvalidArgument,
    RetryPolicy,
    StepFinished,
    StepStarted,
)
from chem_persistence.domain.events import FlowEvent
from tests.support.flows.flows import new_flow_id
from tests.support.leases.desk import Desk
from tests.support.leases.families import Add
from tests.support.leases.staff import Act, Acts, Number, chain, client_of, submit, trace, working


def adding(*amounts: int) -> Flow[Number, Number]:
    """Return the flow that adds these numbers, one after the other."""
    return chain(*(Add(amount, f"step {index}") for index, amount in enumerate(amounts)))


async def completed(desk: Desk, parent: Flow[Number, Number], n: int = 1) -> UUID:
    flow_id = await submit(desk, parent, n)
    async with working(desk, [parent]):
        await client_of(desk).result(parent, flow_id)
    return flow_id


async def events_of(desk: Desk, flow_id: UUID) -> list[FlowEvent]:
    return await desk.store.list(flow_id)


async def test_only_the_steps_from_the_first_different_one_are_run(desk: Desk) -> None:
    client, old, new = client_of(desk), adding(1, 2, 3), adding(1, 20, 3)
    parent = await completed(desk, old)
    branch = await client.branch(parent, new, reason="larger", actor="Ada", label="b")
    assert await trace(desk, branch) == "IF"
    async with working(desk, [new]):
        assert await client.result(new, branch) == Number(25)
    events = await events_of(desk, branch)
    assert "".join(event.variant for event in events) == "IFSFSFC"
    first, kept = events[0], events[1].kind
    assert isinstance(first.kind, FlowInitialized)
    assert first.kind.label == "b"
    assert first.metadata["branched_from"] == {
        "parent": str(parent),
        "root": str(parent),
        "from_step": "step 1",
    }
    assert (first.metadata["reason"], first.metadata["actor"]) == ("larger", "Ada")
    assert isinstance(kept, StepFinished)
    (origin,) = [
        event
        for event in await events_of(desk, parent)
        if isinstance(event.kind, StepFinished) and event.kind.step_index == 0
    ]
    assert kept.reused_from
    assert (kept.reused_from.flow_id, kept.reused_from.version) == (parent, origin.version)
    (made,) = [event for event in await events_of(desk, parent) if event.variant == "B"]
    assert isinstance(made.kind, BranchCreated)
    assert (made.kind.branch_id, made.kind.created_from_step_id) == (branch, "step 1")
    assert made.metadata["actor"] == "Ada"


async def test_a_branch_has_the_fingerprint_of_a_flow_that_ran_whole(desk: Desk) -> None:
    client, old, new = client_of(desk), adding(1, 2), adding(1, 5)
    branch = await client.branch(await completed(desk, old), new, Number(1), reason="r")
    async with working(desk, [new]):
        await client.result(new, branch)
    whole = await completed(desk, new)
    ends = [(await events_of(desk, flow_id))[-1].kind for flow_id in (branch, whole)]
    assert ends[0] == ends[1]


async def test_a_branch_of_a_branch_knows_its_root_and_where_results_came_from(desk: Desk) -> None:
    client = client_of(desk)
    root = await completed(desk, adding(1, 2, 3))
    parent = await client.branch(root, adding(1, 2, 4), Number(1), reason="r")
    child = await client.branch(parent, adding(1, 5, 4), Number(1), reason="r")
    events = await events_of(desk, child)
    assert events[0].metadata["branched_from"]["root"] == str(root)
    assert events[0].metadata["branched_from"]["parent"] == str(parent)
    assert isinstance(events[1].kind, StepFinished)
    assert events[1].kind.reused_from
    assert events[1].kind.reused_from.flow_id == root
    (made,) = [event.kind for event in await events_of(desk, parent) if event.variant == "B"]
    assert isinstance(made, BranchCreated)
    assert (made.root_flow_id, made.parent_flow_id) == (root, parent)


async def test_a_step_is_run_again_when_the_branch_is_from_it(desk: Desk) -> None:
    acts = Acts()
    same, client = chain(Act(acts, "one"), Act(acts, "two")), client_of(desk)
    parent = await completed(desk, same)
    branch = await client.branch(parent, same, Number(1), reason="again", from_step="two")
    async with working(desk, [same]):
        await client.result(same, branch)
    assert [step for step, flow_id in acts.runs if flow_id == branch] == ["two"]


async def test_a_failed_flow_goes_on_in_a_branch_with_other_code(desk: Desk) -> None:
    acts, client = Acts(), client_of(desk)
    acts.failures = [ValueError("no")]
    old = chain(Add(1, "one"), Act(acts, "two", retry=RetryPolicy()))
    flow_id = await submit(desk, old)
    async with working(desk, [old]):
        await client.wait(flow_id)
    new = chain(Add(1, "one"), Add(7, "two"))
    branch = await client.branch(flow_id, new, Number(0), reason="mended")
    async with working(desk, [new]):
        assert await client.result(new, branch) == Number(8)


async def test_another_input_keeps_nothing(desk: Desk) -> None:
    client, same = client_of(desk), adding(1, 2)
    branch = await client.branch(await completed(desk, same), same, Number(5), reason="r")
    assert await trace(desk, branch) == "I"


@pytest.mark.parametrize(
    ("new", "from_step", "reason"),
    [
        (adding(1, 2), None, "nothing would be run"),
        (adding(1, 2), "step 7", "has no step 'step 7'"),
        (adding(9, 2), "step 1", "the result of step 'step 0'"),
    ],
)
async def test_what_cannot_be_branched_is_refused(
    desk: Desk, new: Flow[Number, Any], from_step: str | None, reason: str
) -> None:
    client, parent = client_of(desk), await completed(desk, adding(1, 2))
    before = await events_of(desk, parent)
    with pytest.raises(InvalidArgument, match=reason):
        await client.branch(parent, new, Number(1), reason="r", from_step=from_step)
    assert await events_of(desk, parent) == before


async def test_a_flow_without_a_stored_definition_is_not_branched(desk: Desk) -> None:
    client, bare = client_of(desk), new_flow_id()
    await desk.store.append_kinds(bare, [FlowInitialized("0" * 64, 1, None), StepStarted(0, "a")])
    with pytest.raises(InvalidArgument, match="is not stored"):
        await client.branch(bare, adding(1), Number(1), reason="r")
    with pytest.raises(FlowNotFound):
        await client.branch(new_flow_id(), adding(1), Number(1), reason="r")


async def test_a_branch_with_an_id_is_made_once(desk: Desk) -> None:
    client, new, branch = client_of(desk), adding(1, 5), new_flow_id()
    parent = await completed(desk, adding(1, 2))
    made = await asyncio.gather(
        *(client.branch(parent, new, Number(1), reason="r", branch_id=branch) for _ in range(4))
    )
    assert set(made) == {branch}
    assert await trace(desk, branch) == "IF"
    assert (await trace(desk, parent)).count("B") == 1
    with pytest.raises(InvalidArgument, match="is not this branch"):
        await client.branch(parent, adding(1, 6), Number(1), reason="r", branch_id=branch)
    with pytest.raises(InvalidArgument, match="is not this branch"):
        await client.branch(parent, new, Number(1), reason="r", branch_id=parent)
