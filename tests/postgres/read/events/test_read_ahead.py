"""Reading ahead: the flow is whole or the error is raised, and the pool stays good."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING, TypeAlias
from uuid import UUID

import anyio
import pytest

from chem_persistence import PgEventStore, PgFlowRepository, PoolProvider, StepSignal, build_pool
from chem_persistence.errors import StoreUnavailable
from chem_persistence.postgres.connection import held_connection
from chem_persistence.postgres.connection.ports import Connection, ConnectionProvider
from chem_persistence.postgres.read import flows
from chem_persistence.postgres.read.flows import Reached, pages_ahead
from chem_persistence.postgres.schema.statements import statement
from tests.support.counting import CountingProvider
from tests.support.flows.flows import DEFINITION, initialized, new_flow_id

if TYPE_CHECKING:
    import asyncpg

    Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"

READ_FACT_PAGE = statement("events/read_fact_page")


PAGE = 4
LENGTH = 5 * PAGE + 1
Reading: TypeAlias = Callable[[ConnectionProvider, UUID], Awaitable[int]]


@pytest.fixture(autouse=True)
def short_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flows, "EVENTS_PER_PAGE_AHEAD", PAGE)


@pytest.fixture
async def single(database_url: str) -> "AsyncIterator[Pool]":
    """Yield a pool of one connection."""
    async with await build_pool(database_url, max_size=1) as pool:
        yield pool


@pytest.fixture
async def flow_id(provider: PoolProvider) -> UUID:
    store, flow_id = PgEventStore(provider), new_flow_id()
    signals = [
        StepSignal(0, "acquire", "progress", {"number": number}) for number in range(1, LENGTH)
    ]
    await store.append_kinds(flow_id, [initialized(), *signals])
    await store.aclose()
    return flow_id


class Terminating(CountingProvider):
    """Ends the sessions of the connections that it lends, from number `begin` to before `end`."""

    def __init__(self, pool: "Pool", begin: int, end: int) -> None:
        super().__init__(PoolProvider(pool))
        self._pool = pool
        self._strikes = range(begin, end)

    @asynccontextmanager
    async def _acquire(self) -> AsyncIterator[Connection]:
        async with super()._acquire() as connection:
            if self.lent in self._strikes:
                ((own,),) = await connection.fetch("SELECT pg_backend_pid()")
                await self._pool.execute("SELECT pg_terminate_backend($1, 5000)", own)
            yield connection


async def by_list(provider: ConnectionProvider, flow_id: UUID) -> int:
    return len(await PgEventStore(provider).list(flow_id))


async def by_load(provider: ConnectionProvider, flow_id: UUID) -> int:
    return (
        await PgFlowRepository(provider, snapshot_after=None).load(flow_id, None, DEFINITION)
    ).version


READINGS = [by_list, by_load]


async def at_rest(pool: "Pool") -> bool:
    """Wait until all connections are idle and no task is left, cancelled releases included."""
    async with asyncio.timeout(60):
        while pool.get_idle_size() < pool.get_size() or len(asyncio.all_tasks()) > 1:
            await asyncio.sleep(0)
    return True


@pytest.mark.parametrize("read", READINGS)
@pytest.mark.parametrize("scope", [False, True], ids=["cancelled as a task", "cancelled by anyio"])
async def test_a_reading_that_is_cancelled_at_any_turn_leaves_all_connections_idle(
    pool: "Pool", provider: PoolProvider, flow_id: UUID, *, read: Reading, scope: bool
) -> None:
    cancelled = 0
    for turns in range(10_000):
        limits = anyio.CancelScope()

        async def reading(limits: anyio.CancelScope = limits) -> int | None:
            with limits:
                return await read(provider, flow_id)
            return None

        task = asyncio.create_task(reading())
        for _ in range(turns):
            await asyncio.sleep(0)
        if task.done():
            assert task.result() == LENGTH
            break
        if scope:
            limits.cancel()
        else:
            task.cancel()
        await asyncio.wait([task])
        cancelled += task.cancelled() or task.result() is None
        assert await at_rest(pool)
    assert cancelled > 20
    assert await pool.fetchval("SELECT 7") == 7


@pytest.mark.superuser
@pytest.mark.parametrize("read", READINGS)
@pytest.mark.parametrize("begin", [1, 2])
async def test_a_page_whose_connection_is_lost_is_read_again(
    pool: "Pool", flow_id: UUID, read: Reading, begin: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(held_connection, "LONGEST_SECONDS", 60.0)  # a busy machine is no reason
    terminating = Terminating(pool, begin, begin + 2)
    assert await read(terminating, flow_id) == LENGTH
    assert terminating.lent == 4
    assert await at_rest(pool)


@pytest.mark.superuser
@pytest.mark.parametrize("read", READINGS)
async def test_a_page_that_cannot_be_read_says_so(
    pool: "Pool", flow_id: UUID, read: Reading
) -> None:
    with pytest.raises(StoreUnavailable):
        await read(Terminating(pool, 2, 100), flow_id)
    assert await at_rest(pool)


async def test_a_reader_that_stops_early_leaves_nothing_behind(
    pool: "Pool", provider: PoolProvider, flow_id: UUID
) -> None:
    for wanted in range(LENGTH // PAGE + 1):
        async with aclosing(pages_ahead(provider, READ_FACT_PAGE, flow_id, Reached())) as pages:
            begins = [(await anext(pages))[0] for _ in range(wanted)]
        assert begins == [page * PAGE for page in range(wanted)]
        assert await at_rest(pool)


@pytest.mark.parametrize("longest", [0.0, 60.0])
async def test_any_number_of_readings_share_one_connection(
    single: "Pool", flow_id: UUID, monkeypatch: pytest.MonkeyPatch, longest: float
) -> None:
    monkeypatch.setattr(held_connection, "LONGEST_SECONDS", longest)
    provider = PoolProvider(single)
    readings = [read(provider, flow_id) for read in READINGS * 10]
    assert await asyncio.gather(*readings) == [LENGTH] * 20
    assert await at_rest(single)


async def test_a_short_flow_is_one_borrowing(provider: PoolProvider) -> None:
    flow_id = new_flow_id()
    await PgEventStore(provider).append_kind(flow_id, initialized())
    counting = CountingProvider(provider)
    assert [await read(counting, flow_id) for read in READINGS] == [1, 1]
    assert counting.lent == 2
