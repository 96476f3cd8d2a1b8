"""How a worker uses its connections."""

import asyncio
import logging
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from chem_persistence import PoolProvider, Worker
from tests.support.counting import CountingProvider
from tests.support.leases.desk import Desk, postgres_desk
from tests.support.leases.staff import Act, Acts, chain, submit, trace, until

if TYPE_CHECKING:
    import asyncpg


@pytest.fixture
async def desk(pool: "asyncpg.Pool[asyncpg.Record]") -> AsyncIterator[Desk]:
    async with postgres_desk(pool) as opened:
        yield opened


async def test_flows_that_are_claimed_together_are_loaded_together(
    desk: Desk, provider: PoolProvider
) -> None:
    acts, counted = Acts(), CountingProvider(provider)
    acts.held = frozenset({"act"})
    flow = chain(Act(acts))
    flow_ids = [await submit(desk, flow, n) for n in range(40)]
    worker = Worker(counted, [flow])
    task = asyncio.create_task(worker.run())
    while acts.running < len(flow_ids):
        await asyncio.sleep(0.005)
    used = counted.lent
    acts.may_end.set()
    for flow_id in flow_ids:
        await until(desk, flow_id, lambda events: events[-1].variant == "C")
    worker.stop()
    await task
    assert used < len(flow_ids) / 2  # a claim, the events, the inputs, and batches of appends


async def test_a_provider_that_opens_no_other_connection_is_warned_about(
    desk: Desk,
    pool: "asyncpg.Pool[asyncpg.Record]",
    provider: PoolProvider,
    caplog: pytest.LogCaptureFixture,
) -> None:
    acts = Acts()
    acts.held = frozenset({"act"})
    flow = chain(Act(acts))
    flow_id = await submit(desk, flow)
    worker = Worker(CountingProvider(provider), [flow], lease=timedelta(seconds=1))
    with caplog.at_level(logging.WARNING, "chem_persistence.leases"):
        task = asyncio.create_task(worker.run())
        await acts.begun.wait()
        ends = "SELECT due_at FROM flow_runs"
        begun = await pool.fetchval(ends)
        while await pool.fetchval(ends) == begun:  # until the event loop has renewed the lease
            await asyncio.sleep(0.005)
        acts.may_end.set()
        await until(desk, flow_id, lambda events: events[-1].variant == "C")
        worker.stop()
        await task
    assert await trace(desk, flow_id) == "ISFC"
    assert caplog.text.count("leases are renewed in the event loop") == 1


async def test_a_pool_opens_another_connection_for_the_renewals(provider: PoolProvider) -> None:
    separate = provider.separate()
    assert separate is not None

    def ask() -> int:
        async def in_another_loop() -> int:
            async with separate as other, other.acquire() as connection:
                (row,) = await connection.fetch("SELECT pg_backend_pid() AS pid")
            return int(row["pid"])

        return asyncio.run(in_another_loop())

    async with provider.acquire() as connection:
        (own,) = await connection.fetch("SELECT pg_backend_pid() AS pid, current_schema() AS name")
        assert await asyncio.to_thread(ask) != own["pid"]
