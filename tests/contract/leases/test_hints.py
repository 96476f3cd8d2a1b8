"""A worker that looks once an hour runs what becomes due meanwhile, on every store."""

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import pytest

from chem_persistence import StepSignal, UserInteractionProvided
from tests.support.flows.desk import HOUR, Desk, distribute_on, memory_desk, postgres_desk
from tests.support.flows.staff import (
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

if TYPE_CHECKING:
    import asyncpg

HOURLY = {"poll_interval": 3600.0}


@pytest.fixture
def desk_in_memory() -> Desk:
    return memory_desk()


@pytest.fixture
async def desk_on_postgres(pool: "asyncpg.Pool[asyncpg.Record]") -> AsyncIterator[Desk]:
    async with postgres_desk(pool) as opened:
        yield opened


@pytest.fixture
async def desk_distributed(
    admin_url: str, pool: "asyncpg.Pool[asyncpg.Record]"
) -> AsyncIterator[Desk]:
    await distribute_on(admin_url)
    async with postgres_desk(pool) as opened:
        yield opened


@pytest.fixture(params=["desk_in_memory", "desk_on_postgres", "desk_distributed"])
def desk(request: pytest.FixtureRequest) -> Desk:
    """Return each store in turn, the last one with the texts that Citus runs."""
    desk: Desk = request.getfixturevalue(request.param)
    return desk


@pytest.fixture
def acts() -> Acts:
    return Acts()


async def test_a_flow_that_is_submitted_is_run(desk: Desk, acts: Acts) -> None:
    flow = chain(Act(acts))
    async with working(desk, [flow], **HOURLY):
        for n in range(3):
            flow_id = await submit(desk, flow, n)
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


@pytest.mark.parametrize(
    "said", [StepSignal(0, "act", "hello"), UserInteractionProvided(0, "act", "yes")]
)
async def test_a_flow_that_is_called_is_looked_at(
    desk: Desk, acts: Acts, said: StepSignal | UserInteractionProvided
) -> None:
    flow = chain(Act(acts))
    async with working(desk, [flow], **HOURLY):
        await until(desk, await submit(desk, flow), lambda events: events[-1].variant == "C")
        flow_id = await submit(desk, flow, due_in=HOUR)
        await desk.store.append_kind(flow_id, said)
        await until(desk, flow_id, lambda events: events[-1].variant == "C")
