"""Parents and children that are cancelled, and workers that leave them half done."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from chem_persistence import (
    Flow,
    FlowEvent,
    FlowHasFailed,
    FlowInitialized,
    FlowParent,
    FlowState,
    Many,
    StepSignal,
    StepStarted,
    StepWaits,
    flow,
)
from chem_persistence.domain.events import CANCEL
from chem_persistence.engine.children.family import Family
from chem_persistence.store.leasing.children import child_id
from tests.support.leases.desk import HOUR, Desk
from tests.support.leases.families import Add, Picky, children_of, listed, mapped
from tests.support.leases.staff import Act, Acts, Number, client_of, submit, trace, until, working

SHORT = timedelta(seconds=1)
"""A lease whose holder finds out soon that its flow was cancelled."""


def waits(events: Sequence[FlowEvent]) -> bool:
    return events[-1].variant == "W"


def has_ended(events: Sequence[FlowEvent]) -> bool:
    return events[-1].variant in "CK"


async def submit_child(
    desk: Desk, child: Flow[Number, Any], parent: UUID, step_index: int, item: int
) -> UUID:
    """Submit a child as the owner of its parent would."""
    given = child.input_artifact(Number(item))
    assert given is not None
    flow_id = child_id(parent, step_index, item)
    first = FlowInitialized(
        child.definition_hash,
        len(child.steps),
        given.hash,
        due=datetime.now(UTC),
        parent=FlowParent(parent, step_index, item),
    )
    await desk.store.append_kinds(flow_id, [first], artifacts=[given], expected_version=0)
    return flow_id


# ---- cancelled


async def test_the_cancel_of_a_parent_cancels_its_children(desk: Desk, acts: Acts) -> None:
    acts.held = frozenset({"act"})
    parent, client = mapped(Act(acts), at_once=3), client_of(desk)
    flow_id = await submit(desk, parent, 5)
    async with working(desk, [parent], lease=SHORT):
        await until(desk, flow_id, waits)
        while acts.running < 3:
            await asyncio.sleep(0.005)
        await client.cancel(flow_id, reason="no longer needed", actor="Ada")
        assert await client.wait(flow_id) is FlowState.CANCELLED
        children = await children_of(desk, flow_id, 1, 5)
        for child in children:
            assert await client.wait(child) is FlowState.CANCELLED
    assert len(children) == 3
    assert await trace(desk, flow_id) == "ISFSWGK"


async def test_the_cancel_reaches_the_children_of_children(desk: Desk, acts: Acts) -> None:
    acts.held = frozenset({"act"})
    inner = flow("inner", Add(0)).call(flow("innermost", Act(acts)))
    parent, client = flow("outer", Add(0, "first")).call(inner), client_of(desk)
    flow_id = await submit(desk, parent, 5)
    child = child_id(flow_id, 1, 0)
    async with working(desk, [parent], lease=SHORT):
        await acts.begun.wait()
        await until(desk, child, waits)
        await client.cancel(flow_id, reason="no longer needed")
        for each in (flow_id, child, child_id(child, 1, 0)):
            assert await client.wait(each) is FlowState.CANCELLED


async def test_a_child_that_comes_after_the_cancel_is_cancelled_by_who_claims_it(
    desk: Desk, acts: Acts
) -> None:
    item = flow("item", Act(acts))
    parent = listed().map(item)
    flow_id = await submit(desk, parent, 2)
    await desk.store.append_kinds(
        flow_id,
        [StepStarted(0, "list"), StepWaits(0, "list", datetime.now(UTC) + HOUR)],
    )
    await client_of(desk).cancel(flow_id, reason="no longer needed")
    child = await submit_child(desk, item, flow_id, 1, 0)
    async with working(desk, [item]):  # nobody serves the parent
        assert await client_of(desk).wait(child) is FlowState.CANCELLED
    last = (await desk.store.list(child))[-1].kind
    assert getattr(last, "reason", "") == f"its parent, flow {flow_id}, was cancelled"
    assert acts.runs == []


async def test_without_a_look_at_its_parent_such_a_child_would_run(
    desk: Desk, acts: Acts, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def nobody(_: object) -> set[UUID]:
        return set()

    item = flow("item", Act(acts))
    parent = listed().map(item)
    flow_id = await submit(desk, parent, 2)
    await client_of(desk).cancel(flow_id, reason="no longer needed")
    child = await submit_child(desk, item, flow_id, 1, 0)
    monkeypatch.setattr(desk.store, "cancelled_flows", nobody)
    async with working(desk, [item]):
        assert await client_of(desk).wait(child) is FlowState.COMPLETED
    assert acts.runs == [("act", child)]


async def test_a_parent_that_submits_is_asked_to_end_since_children_may_be_there(
    desk: Desk,
) -> None:
    parent = flow("outer", Add(0, "first")).call(flow("inner", Add(1)))
    other = flow("other", Add(0, "first")).then(Add(1))
    for each, variant in ((parent, "G"), (other, "K")):
        flow_id = await submit(desk, each, 2)
        token = await desk.take(flow_id)
        leased = desk.store.leased(flow_id, token)
        await leased.append_kind(flow_id, StepStarted(1, each.steps[1].id))
        await client_of(desk).cancel(flow_id, reason="no longer needed")
        assert (await trace(desk, flow_id)) == f"IS{variant}"
    signal = StepSignal(1, "inner", CANCEL, {"reason": "no longer needed"})
    assert signal in [event.kind for event in await desk.store.list(await only_parent(desk))]


async def only_parent(desk: Desk) -> UUID:
    events = await desk.store.read_feed()
    return next(event.flow_id for event in events if event.variant == "G")


async def test_a_cancelled_child_is_a_failure_that_no_retry_mends(desk: Desk, acts: Acts) -> None:
    acts.held = frozenset({"act"})
    parent, client = mapped(Act(acts)), client_of(desk)
    flow_id = await submit(desk, parent, 2)
    async with working(desk, [parent]):
        await until(desk, flow_id, waits)
        await acts.begun.wait()
        await client.cancel(child_id(flow_id, 1, 1), reason="not this one")
        acts.may_end.set()
        for _ in range(2):
            with pytest.raises(FlowHasFailed, match="was cancelled"):
                await client.result(parent, flow_id)
            await client.retry(flow_id, reason="once more")
            await until(desk, flow_id, lambda events: events[-1].variant == "X")


async def test_a_cancelled_child_may_be_tolerated(desk: Desk, acts: Acts) -> None:
    acts.held = frozenset({"act"})
    parent, client = listed().map(flow("item", Act(acts)), failures=0.5), client_of(desk)
    flow_id = await submit(desk, parent, 2)
    async with working(desk, [parent]):
        await until(desk, flow_id, waits)
        await acts.begun.wait()
        await client.cancel(child_id(flow_id, 1, 0), reason="not this one")
        acts.may_end.set()
        assert await client.result(parent, flow_id) == Many((Number(2),), (0,))


# ---- left half done by a worker that died


async def test_a_parent_goes_on_with_the_children_that_another_process_has_submitted(
    desk: Desk,
) -> None:
    picky = Picky()
    item = flow("item", picky)
    parent = listed().map(item)
    flow_id = await submit(desk, parent, 4)
    async with working(desk, [item]):  # the parent's owner died after two submissions
        done = [await submit_child(desk, item, flow_id, 1, n) for n in (0, 2)]
        for child in done:
            await until(desk, child, has_ended)
    async with working(desk, [parent]):
        many = await client_of(desk).result(parent, flow_id)
    assert many == Many(tuple(Number(10 * n) for n in range(4)))
    assert picky.runs == {0: 1, 1: 1, 2: 1, 3: 1}


async def test_a_parent_whose_call_was_lost_looks_by_itself(desk: Desk) -> None:
    item = flow("item", Picky())
    parent = listed().map(item)
    flow_id = await submit(desk, parent, 1)
    token = await desk.take(flow_id)
    await desk.leases.give_back(flow_id, token, None)
    child = await submit_child(desk, item, flow_id, 1, 0)
    async with working(desk, [item]):
        await until(desk, child, has_ended)
    await desk.make_due(flow_id)
    async with working(desk, [parent]):  # the first look finds what no call has told
        assert await client_of(desk).result(parent, flow_id) == Many((Number(0),))


async def test_a_parent_is_never_left_to_calls_alone(desk: Desk, acts: Acts) -> None:
    acts.held = frozenset({"act"})
    parent = flow("outer", Add(0, "first")).call(flow("inner", Act(acts)))
    flow_id = await submit(desk, parent, 1)
    async with working(desk, [parent]):
        await acts.begun.wait()
        await until(desk, flow_id, waits)
        for _ in range(2):  # after the wait is stored, and after a look that found nothing
            while (row := await desk.seen(flow_id)).lease is not None or row.due == "now":
                await asyncio.sleep(0.005)
            assert row.due == "in 0 h"
            await desk.make_due(flow_id)
        acts.may_end.set()
        assert await client_of(desk).result(parent, flow_id) == Number(2)


async def test_a_child_that_ends_calls_its_parent(desk: Desk) -> None:
    item = flow("item", Picky({3}))
    parent = listed().map(item)
    for n in (2, 3):  # one child completes, the other one fails
        flow_id = await submit(desk, parent, 4)
        token = await desk.take(flow_id)
        await desk.leases.give_back(flow_id, token, None)
        assert (await desk.seen(flow_id)).due == "never"
        await submit_child(desk, item, flow_id, 1, n)
        async with working(desk, [item]):
            while (await desk.seen(flow_id)).due != "now":
                await asyncio.sleep(0.005)


async def test_a_child_is_retried_once_however_often_the_retry_is_begun(desk: Desk) -> None:
    item, client = flow("item", Picky({0})), client_of(desk)
    parent = listed().map(item)
    flow_id, child = await submit(desk, parent, 1), UUID(int=0)
    async with working(desk, [parent]):
        await until(desk, flow_id, lambda events: events[-1].variant == "X")
        child = child_id(flow_id, 1, 0)
    await client.retry(flow_id, reason="once more")
    await Family(desk.store, flow_id, 1, desk.store.clock).retry([0], 1)  # and its owner dies
    async with working(desk, [item]):
        await until(desk, child, lambda events: events[-1].variant == "X")
    async with working(desk, [parent]):
        await until(desk, flow_id, lambda events: events[-1].variant == "X")
    assert await trace(desk, flow_id) == "ISFSWXRSX"
    assert await trace(desk, child) == "ISXRSX"
