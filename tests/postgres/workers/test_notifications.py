"""How hints are sent and heard on PostgreSQL, and that nothing depends on them."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from chem_persistence import PoolProvider, Worker, build_pool
from chem_persistence.postgres.hints import send_hints
from tests.support.leases.desk import Desk, postgres_desk
from tests.support.leases.staff import Act, Acts, chain, submit, until, working

if TYPE_CHECKING:
    from chem_persistence import FlowEvent

HOURLY = {"poll_interval": 3600.0}
IS_OPEN = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $1)"
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


async def listener(worker: Worker, *others: int) -> int:
    """Wait for a session on which a worker listens, other than these; return its process id."""
    leases: Any = worker._leases
    while True:
        with suppress(AttributeError, asyncpg.InterfaceError):  # there is none, or it is lost
            pid = leases._listening.get_server_pid()
            if pid not in others:
                assert isinstance(pid, int)
                return pid
        await asyncio.sleep(0.005)


async def test_a_worker_whose_session_is_ended_listens_again(
    desk: Desk, pool: "asyncpg.Pool[asyncpg.Record]"
) -> None:
    flow = chain(Act(Acts()))
    async with working(desk, [flow], **HOURLY) as worker:
        first = await listener(worker)
        await pool.execute("SELECT pg_terminate_backend($1::integer)", first)
        await listener(worker, first)
        await until(desk, await submit(desk, flow), is_complete)


async def test_a_worker_that_has_stopped_listens_no_more(
    desk: Desk, pool: "asyncpg.Pool[asyncpg.Record]"
) -> None:
    async with working(desk, [chain(Act(Acts()))]) as worker:
        pid = await listener(worker)
    while await pool.fetchval(IS_OPEN, pid):
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
