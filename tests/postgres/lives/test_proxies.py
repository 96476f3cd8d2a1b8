"""Between a store and its servers: a proxy hides a failover, or directs reads to a standby."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any

import asyncpg
import pytest

from chem_persistence import (
    ConcurrencyConflict,
    HistoryLost,
    PgEventStore,
    PoolProvider,
    StepSignal,
    StoreError,
    StoreUnavailable,
    build_pool,
)
from chem_persistence.postgres.connection.ports import ConnectionProvider
from tests.support.faults.between import is_an_append
from tests.support.flows.flows import new_flow_id
from tests.support.servers.lives import Life, Promotion, Switchover
from tests.support.servers.pgbouncer import pgbouncer_before

pytestmark = pytest.mark.slow

SIGNAL = StepSignal(0, "acquire", "progress")


@pytest.mark.pgbouncer
@pytest.mark.parametrize("kind", [Promotion], indirect=True)
async def test_a_failover_behind_pgbouncer_is_told(life: Life) -> None:
    """The connection of the client outlives its server."""
    flow_id = new_flow_id()
    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(pgbouncer_before(life.url))
        await (await build_pool(life.url)).close()  # its schema
        pool = await build_pool(url, max_size=2, transaction_pooling=True)
        stack.push_async_callback(pool.close)
        store = PgEventStore(PoolProvider(pool))
        await store.append_kinds(flow_id, [SIGNAL] * 3)
        await life.keep()
        await store.append_kinds(flow_id, [SIGNAL] * 3)
        position = await store.position()
        living = store.follow()
        for _ in range(6):
            await anext(living)
        await life.go_back()
        await _until_served(pool)
        with pytest.raises(HistoryLost):
            await anext(living)
        with pytest.raises(HistoryLost):
            await store.read_feed(after_seq=position)
        with pytest.raises(HistoryLost):
            await store.append_kind(flow_id, SIGNAL)


@pytest.mark.pgbouncer
@pytest.mark.parametrize("kind", [Switchover], indirect=True)
async def test_nothing_is_told_of_a_clean_switchover_behind_pgbouncer(life: Life) -> None:
    flow_id = new_flow_id()
    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(pgbouncer_before(life.url))
        await (await build_pool(life.url)).close()  # its schema
        pool = await build_pool(url, max_size=2, transaction_pooling=True)
        stack.push_async_callback(pool.close)
        store = PgEventStore(PoolProvider(pool))
        await life.keep()
        await store.append_kinds(flow_id, [SIGNAL] * 6)
        position = await store.position()
        await life.go_back()
        await _until_served(pool)
        event = await store.append_kind(flow_id, SIGNAL)
        assert (event.version, await store.read_feed(after_seq=position)) == (6, [event])


async def _until_served(pool: "asyncpg.Pool[asyncpg.Record]") -> None:
    """Wait until PgBouncer has logged in to the server again."""
    async with asyncio.timeout(60):
        while True:
            with suppress(asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
                await pool.fetchval("SELECT 1")
                return


class Routed:
    """A connection of a proxy that runs appends on the primary, and all else on a standby."""

    def __init__(self, primary: Any, standby: Any) -> None:
        self._primary, self._standby = primary, standby

    def __getattr__(self, name: str) -> Any:
        return getattr(self._primary, name)

    async def fetch(self, statement: str, *arguments: object) -> list[Any]:
        server = self._primary if is_an_append(statement) else self._standby
        rows: list[Any] = await server.fetch(statement, *arguments)
        return rows


class Routing:
    """Lends routed connections."""

    def __init__(self, primary: ConnectionProvider, standby: ConnectionProvider) -> None:
        self._primary, self._standby = primary, standby

    @asynccontextmanager
    async def acquire(self) -> AsyncIterator[Any]:
        async with self._primary.acquire() as primary, self._standby.acquire() as standby:
            yield Routed(primary, standby)


@pytest.mark.parametrize("kind", [Promotion], indirect=True)
async def test_what_a_standby_has_not_received_is_not_taken_for_lost(life: Promotion) -> None:
    flow_id, other_flow = new_flow_id(), new_flow_id()
    async with AsyncExitStack() as stack:
        primary = await stack.enter_async_context(await build_pool(life.url, max_size=3))
        direct = PgEventStore(PoolProvider(primary))
        await direct.append_kinds(flow_id, [SIGNAL] * 2)
        await life.keep()  # from now on the standby receives nothing
        standby = await stack.enter_async_context(await build_pool(life.standby.url(), max_size=3))
        routed = PgEventStore(Routing(PoolProvider(primary), PoolProvider(standby)))
        for _ in range(3):
            await routed.append_kind(flow_id, SIGNAL)
        await direct.append_kind(flow_id, SIGNAL)
        position = await direct.position()
        with pytest.raises(StoreUnavailable, match="standby"):
            await routed.append_kind(flow_id, SIGNAL)
        with pytest.raises(StoreUnavailable, match="standby"):
            await routed.append_kind(flow_id, SIGNAL, expected_version=5)
        with pytest.raises((StoreUnavailable, ConcurrencyConflict)):
            await routed.append_kind(other_flow, SIGNAL, expected_version=1)
        for reading in (
            routed.read_feed(after_seq=position),
            routed.read_feed(after_seq=position.seq),
            anext(routed.follow(after_seq=position)),
            routed.newest_that_holds([position]),
        ):
            with pytest.raises(StoreError):
                await reading
        assert len(await direct.list(flow_id)) == 6
