"""A worker that looks once an hour runs what becomes due meanwhile, on every store."""

from datetime import timedelta

import pytest

from chem_persistence import StepWaits
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

HOURLY = {"poll_interval": 3600.0}


@pytest.fixture
def acts() -> Acts:
    return Acts()


async def test_a_flow_that_is_submitted_is_run(desk: Desk, acts: Acts) -> None:
    flow = chain(Act(acts))
    async with working(desk, [flow], **HOURLY):
        for n in range(3):
            flow_id = await submit(desk, flow, n)
            await until(desk, flow_id, lambda events: events[-1].variant == "C")


async def test_a_flow_that_is_due_in_a_while_is_run_then(desk: Desk, acts: Acts) -> None:
    flow = chain(Act(acts))
    async with working(desk, [flow], **HOURLY):
        await until(desk, await submit(desk, flow), lambda events: events[-1].variant == "C")
        flow_id = await submit(desk, flow, 1, due_in=timedelta(milliseconds=300))
        await until(desk, flow_id, lambda events: events[-1].variant == "C")


async def test_a_flow_that_a_transaction_submits_is_run(desk: Desk, acts: Acts) -> None:
    flow = chain(Act(acts))
    async with working(desk, [flow], **HOURLY):
        await until(desk, await submit(desk, flow), lambda events: events[-1].variant == "C")
        async with desk.store.transaction() as transaction:
            flow_id = await transaction.submit(flow, Number(1))
        await until(desk, flow_id, lambda events: events[-1].variant == "C")


async def test_a_failed_flow_that_is_retried_is_run(desk: Desk, acts: Acts) -> None:
    flow = chain(Act(acts))
    acts.failures = [ValueError("no")]
    async with working(desk, [flow], **HOURLY):
        flow_id = await submit(desk, flow)
        await until(desk, flow_id, lambda events: events[-1].variant == "X")
        await client_of(desk).retry(flow_id, reason="mended")
        await until(desk, flow_id, lambda events: events[-1].variant == "C")
    assert await trace(desk, flow_id) == "ISXRSFC"


async def test_a_flow_that_waits_and_is_to_be_cancelled_is_looked_at(
    desk: Desk, acts: Acts
) -> None:
    flow = chain(Act(acts))
    async with working(desk, [flow], **HOURLY):
        await until(desk, await submit(desk, flow), lambda events: events[-1].variant == "C")
        flow_id = await submit(desk, flow, due_in=HOUR)
        await desk.store.append_kind(flow_id, StepWaits(0, "act", None))
        await client_of(desk).cancel(flow_id, reason="not needed")
        await until(desk, flow_id, lambda events: events[-1].variant == "K")
    assert await trace(desk, flow_id) == "IWGK"
