"""Pages of a flow together are the whole flow; between them the connection is free."""

import gc
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import TYPE_CHECKING
from uuid import UUID

import pytest

from chem_persistence import (
    FlowEventKind,
    PgEventStore,
    PgFlowRepository,
    PoolProvider,
    StepSignal,
    UnreadableEvent,
    build_pool,
)
from chem_persistence.postgres.connection.ports import ConnectionProvider
from chem_persistence.postgres.read import flows
from tests.support.counting import CountingProvider
from tests.support.flows.flows import DEFINITION, initialized, new_flow_id

if TYPE_CHECKING:
    import asyncpg

PAGE = 4
LENGTHS = [0, 1, PAGE - 1, PAGE, PAGE + 1, 2 * PAGE, 2 * PAGE + 3]


@pytest.fixture
def short_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flows, "EVENTS_PER_PAGE", PAGE)
    monkeypatch.setattr(flows, "EVENTS_PER_PAGE_AHEAD", PAGE)


@pytest.fixture
async def single(database_url: str) -> "AsyncIterator[asyncpg.Pool[asyncpg.Record]]":
    """Yield a pool of one connection."""
    async with await build_pool(database_url, max_size=1) as pool:
        yield pool


def kinds(length: int) -> list[FlowEventKind]:
    history: list[FlowEventKind] = [initialized()]
    history += [
        StepSignal(0, "acquire", "progress", {"number": number}) for number in range(length)
    ]
    return history[:length]


async def stored_flow(provider: ConnectionProvider, length: int) -> UUID:
    flow_id = new_flow_id()
    if length:
        await PgEventStore(provider).append_kinds(flow_id, kinds(length))
    return flow_id


@pytest.mark.usefixtures("short_pages")
@pytest.mark.parametrize("length", LENGTHS)
async def test_pages_of_any_number_are_the_whole_flow(provider: PoolProvider, length: int) -> None:
    store, flow_id = PgEventStore(provider), await stored_flow(provider, length)
    (events,) = (await store.list_many([flow_id])).values()
    assert [event.version for event in events] == list(range(length))
    assert await store.list(flow_id) == events
    assert [event async for event in store.iterate(flow_id)] == events
    instance = await PgFlowRepository(provider, snapshot_after=None).load(flow_id, None, DEFINITION)
    assert instance == await PgFlowRepository(provider).load(flow_id, events, DEFINITION)


@pytest.mark.usefixtures("short_pages")
async def test_a_limit_cuts_the_last_page(provider: PoolProvider) -> None:
    store, flow_id = PgEventStore(provider), await stored_flow(provider, 11)
    for limit in range(13):
        events = await store.list(flow_id, after_version=1, limit=limit)
        assert [event.version for event in events] == list(range(2, min(2 + limit, 11)))


@pytest.mark.usefixtures("short_pages")
async def test_a_pool_of_one_connection_serves_others_between_pages(
    provider: PoolProvider, single: "asyncpg.Pool[asyncpg.Record]"
) -> None:
    flow_id = await stored_flow(provider, 3 * PAGE)
    versions = []
    async for event in PgEventStore(PoolProvider(single)).iterate(flow_id):
        versions.append(event.version)
        assert single.get_idle_size() == 1
        assert await single.fetchval("SELECT 7") == 7
    assert versions == list(range(3 * PAGE))


@pytest.mark.usefixtures("short_pages")
async def test_what_is_appended_while_a_flow_is_walked_comes_too(provider: PoolProvider) -> None:
    store, flow_id = PgEventStore(provider), await stored_flow(provider, 2 * PAGE)
    versions = []
    async for event in store.iterate(flow_id):
        versions.append(event.version)
        if len(versions) < 3 * PAGE:
            await store.append_kind(flow_id, StepSignal(0, "acquire", "meanwhile"))
    assert versions == list(range(5 * PAGE - 1))


@pytest.mark.usefixtures("short_pages")
async def test_an_iterator_that_is_abandoned_keeps_no_connection(
    provider: PoolProvider, single: "asyncpg.Pool[asyncpg.Record]"
) -> None:
    store, flow_id = PgEventStore(PoolProvider(single)), await stored_flow(provider, 3 * PAGE)
    iterators = [store.iterate(flow_id) for _ in range(5)]
    for iterator in iterators:
        assert (await anext(iterator)).version == 0
    del iterator, iterators
    gc.collect()
    assert single.get_idle_size() == 1
    assert len(await store.list(flow_id)) == 3 * PAGE


@pytest.mark.usefixtures("short_pages")
async def test_an_iterator_that_is_closed_is_over(provider: PoolProvider) -> None:
    flow_id = await stored_flow(provider, 3 * PAGE)
    async with aclosing(flows.iterate_events(provider, flow_id, -1)) as events:
        assert (await anext(events)).version == 0
    with pytest.raises(StopAsyncIteration):
        await anext(events)


async def test_many_flows_are_one_query(provider: PoolProvider) -> None:
    """Of those that are empty the register is asked, by one more."""
    for lengths, queries in (LENGTHS[1:], 1), (LENGTHS, 2):
        flow_ids = [await stored_flow(provider, length) for length in lengths]
        counting = CountingProvider(provider)
        found = await PgEventStore(counting).list_many(flow_ids)
        assert [len(events) for events in found.values()] == lengths
        assert counting.lent == queries
    counting = CountingProvider(provider)
    assert await PgEventStore(counting).list_many([]) == {}
    assert counting.lent == 0


async def remove_event(pool: "asyncpg.Pool[asyncpg.Record]", flow_id: UUID, version: int) -> None:
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute("SET LOCAL session_replication_role = replica")
        await connection.execute(
            "DELETE FROM event_log WHERE flow_id = $1 AND version = $2", flow_id, version
        )


@pytest.mark.usefixtures("short_pages")
@pytest.mark.parametrize("gap", [0, 1, PAGE - 1, PAGE, PAGE + 1])
async def test_a_missing_event_is_found_in_every_way_of_reading(
    pool: "asyncpg.Pool[asyncpg.Record]", provider: PoolProvider, gap: int
) -> None:
    store, flow_id = PgEventStore(provider), await stored_flow(provider, 2 * PAGE + 1)
    await remove_event(pool, flow_id, gap)
    before: list[int] = []

    async def iterate() -> None:
        async for event in store.iterate(flow_id):
            before.append(event.version)  # noqa: PERF401  # keeps what came before the error

    for read in (
        lambda: store.list(flow_id),
        lambda: store.list_many([flow_id]),
        iterate,
        lambda: PgFlowRepository(provider).load(flow_id, None, DEFINITION),
    ):
        with pytest.raises(UnreadableEvent, match="missing") as caught:
            await read()
        assert (caught.value.flow_id, caught.value.version) == (flow_id, gap)
    assert before == list(range(gap))


LONG, BATCH = 100_000, 5_000
MOST_MEMORY = 32 * 2**20


@pytest.mark.slow
async def test_a_flow_of_100000_events_is_replayed_and_walked_in_32_megabytes(
    provider: PoolProvider,
) -> None:
    store, flow_id = PgEventStore(provider), new_flow_id()
    history = kinds(LONG)
    for first in range(0, LONG, BATCH):
        await store.append_kinds(flow_id, history[first : first + BATCH], expected_version=first)
    without, counting = PgFlowRepository(provider, snapshot_after=None), CountingProvider(provider)

    tracemalloc.start()
    instance = await without.load(flow_id, None, DEFINITION)
    walked = 0
    async for event in store.iterate(flow_id):
        walked = event.version + 1
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert (instance.version, walked) == (LONG, LONG)
    assert peak < MOST_MEMORY
    assert await PgFlowRepository(provider).load(flow_id, None, DEFINITION) == instance
    assert await PgFlowRepository(counting).load(flow_id, None, DEFINITION) == instance
    assert counting.lent == 3, "the first events, the snapshot, and the page after it"
