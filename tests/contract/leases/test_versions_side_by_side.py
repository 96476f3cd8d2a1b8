"""A new version of a flow beside the old one, whose worker was believed dead and comes back."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from chem_persistence import Flow, FlowEvent
from tests.support.leases.desk import HOUR, Desk
from tests.support.leases.staff import (
    Act,
    Acts,
    Number,
    chain,
    client_of,
    submit,
    trace,
    until,
    working,
)


class NewAct(Act):
    """The same step in its next version."""

    version = "2"


def old_flow(acts: Acts) -> Flow[Number, Any]:
    return chain(Act(acts, "one"), Act(acts, "two"))


def new_flow(acts: Acts) -> Flow[Number, Any]:
    return chain(Act(acts, "one"), NewAct(acts, "two"))


def is_over(events: Sequence[FlowEvent]) -> bool:
    return events[-1].variant == "C"


@pytest.fixture
def old() -> Acts:
    acts = Acts()
    acts.held = frozenset({"one"})
    return acts


async def test_a_worker_of_the_new_version_leaves_the_flows_of_the_old_one(
    desk: Desk, old: Acts
) -> None:
    new = Acts()
    before = await submit(desk, old_flow(old))
    async with working(desk, [old_flow(old)], lease=HOUR, at_once=1):
        await old.begun.wait()
        await desk.make_due(before)  # as if the old worker had been stopped for an hour
        async with working(desk, [new_flow(new)]):
            after = await submit(desk, new_flow(new))
            await until(desk, after, is_over)
        assert {flow_id for _, flow_id in new.runs} == {after}
        old.may_end.set()  # it comes back, and nobody has taken its flow
        await until(desk, before, is_over)
    assert await trace(desk, before) == "ISFSFC"
    assert {flow_id for _, flow_id in old.runs} == {before}
    assert await client_of(desk).result(old_flow(old), before) == Number(2)


async def test_a_worker_of_both_versions_takes_over_and_the_old_one_appends_nothing(
    desk: Desk, old: Acts
) -> None:
    both = Acts()
    before = await submit(desk, old_flow(old))
    async with working(desk, [old_flow(old)], lease=HOUR, at_once=1) as stopped:
        await old.begun.wait()
        await desk.make_due(before)
        async with working(desk, [new_flow(both), old_flow(both)]):
            after = await submit(desk, new_flow(both))
            for flow_id in (before, after):
                await until(desk, flow_id, is_over)
        log = await desk.store.list(before)
        old.may_end.set()
        while stopped._running:
            await asyncio.sleep(0.005)
        assert await desk.store.list(before) == log
    assert await trace(desk, before) == "ISSFSFC"
    assert [step_id for step_id, _ in old.runs] == ["one"]
    assert sorted(both.runs) == sorted(
        (step_id, flow_id) for step_id in ("one", "two") for flow_id in (before, after)
    )
    assert await client_of(desk).result(old_flow(old), before) == Number(2)
    assert old_flow(old).definition_hash != new_flow(old).definition_hash
