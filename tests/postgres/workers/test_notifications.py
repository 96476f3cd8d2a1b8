"""How hints are sent and heard on PostgreSQL, and that nothing depends on them."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING

import asyncpg
import pytest

from chem_persistence import PoolProvider, build_pool
from chem_persistence.postgres.hints import send_hints
from tests.support.leases.desk import Desk, postgres_desk
from tests.support.leases.staff import Act, Acts, chain, submit, until, working

if TYPE_CHECKING:
    from chem_persistence import FlowEvent

HOURLY = {"poll_interval": 3600.0}
LISTENERS = """
    SELECT pid FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> ALL ($1::integer[])
        AND (query LIKE 'LISTEN %' OR query LIKE '%claim_flow_runs(%')
        AND pid <> pg_backend_pid()
"""
"""A claim is the last statement of a session that listens; a pool resets its own sessions."""
BEHIND_A_POOLER = (
    "SELECT pid FROM pg_stat_activity WHERE query LIKE 'LISTEN %' AND datname = current_database()"
)
"""Nothing is reset there, so that a claim is the last statement of any session."""


@pytest.fixture
async def desk(pool: "asyncpg.Pool[asyncpg.Record]") -> AsyncIterator[Desk]:
    async with postgres_desk(pool) as opened:
        yield opened


def is_complete(events: "Sequence[FlowEvent]") -> bool:
    return events[-1].variant == "C"


async def listener(pool: "asyncpg.Pool[asyncpg.Record]", *others: int) -> int:
    """Wait for a session that listens, other than these, and return its process id."""
    while (found := await pool.fetchval(LISTENERS, others)) is None:
        await asyncio.sleep(0.005)
    assert isinstance(found, int)
    return found


async def test_a_worker_whose_session_is_ended_listens_again(
    desk: Desk, pool: "asyncpg.Pool[asyncpg.Record]"
) -> None:
    flow = chain(Act(Acts()))
    async with working(desk, [flow], **HOURLY):
        first = await listener(pool)
        await pool.execute("SELECT pg_terminate_backend($1)", first)
        await listener(pool, first)
        await until(desk, await submit(desk, flow), is_complete)


async def test_a_worker_that_has_stopped_listens_no_more(
    desk: Desk, pool: "asyncpg.Pool[asyncpg.Record]"
) -> None:
    async with working(desk, [chain(Act(Acts()))]):
        await listener(pool)
    while await pool.fetchval(LISTENERS, []) is not None:
        await asyncio.sleep(0.005)


async def test_a_worker_behind_a_pooler_looks_by_itself(database_url: str) -> None:
    async with await build_pool(database_url, transaction_pooling=True) as pool:
        assert PoolProvider(pool).separate(own_session=True) is None
        flow = chain(Act(Acts()))
        async with postgres_desk(pool) as desk, working(desk, [flow]):
            await until(desk, await submit(desk, flow), is_complete)
            assert await pool.fetchval(BEHIND_A_POOLER) is None


async def test_a_hint_that_cannot_be_sent_is_no_failure(database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    await connection.close()
    await send_hints(connection, ["ab"])
