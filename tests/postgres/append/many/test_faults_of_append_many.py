"""Appends to many flows by one call on PostgreSQL: shared transactions, faults, cancellation."""

import asyncio
from collections.abc import AsyncIterator
from itertools import count
from typing import TypeAlias

import asyncpg
import pytest
from uuid_utils.compat import uuid7

from chem_persistence import (
    Artifact,
    FlowAnswer,
    FlowAppend,
    FlowEventKind,
    PgEventStore,
    PoolProvider,
    StepFinished,
    StepSignal,
    StoreClosed,
    StoreUnavailable,
    build_pool,
)
from chem_persistence.postgres.append import held_flows, place_events
from tests.support.faults.gate import gate
from tests.support.faults.proxy import Fault, Proxy, Strike, proxied
from tests.support.flows.flows import initialized, new_flow_id
from tests.support.flows.messages import gives_a_stored_event

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"

WAITING = """
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND wait_event_type = 'Lock'
"""
TRANSACTIONS = "SELECT count(DISTINCT xmin::text) FROM event_log WHERE flow_id = ANY ($1)"


@pytest.fixture
async def proxy(database_url: str) -> AsyncIterator[Proxy]:
    async with proxied(database_url) as proxy:
        yield proxy


@pytest.fixture
async def through(proxy: Proxy) -> AsyncIterator[PgEventStore]:
    """Yield a store whose only connection goes through the proxy."""
    async with await build_pool(proxy.url, min_size=0, max_size=1) as pool:
        yield PgEventStore(PoolProvider(pool))


@pytest.fixture
def store(provider: PoolProvider) -> PgEventStore:
    return PgEventStore(provider)


def drawn(flows: int, *, ids_given: bool = True) -> list[FlowAppend]:
    """Return appends with two events and an artifact each; no two calls have equal ones."""
    appends = []
    for number in range(flows):
        artifact = Artifact.from_payload(kind="Molecule", payload={"name": str(uuid7())})
        kinds: list[FlowEventKind] = [
            initialized(),
            StepFinished(0, "acquire", (artifact.hash,), "f" * 64),
        ]
        ids = [uuid7(), uuid7()] if ids_given else None
        version = 0 if number % 2 or not ids_given else None
        appends.append(FlowAppend(new_flow_id(), kinds, [artifact], version, ids))
    return appends


async def see_each_once(
    store: PgEventStore, appends: list[FlowAppend], answers: list[FlowAnswer] | None
) -> None:
    """Check that each flow is stored whole or (unless acknowledged) not at all, and repeat all."""
    stored = await store.list_many([each.flow_id for each in appends])
    for append in appends:
        assert len(stored[append.flow_id]) in {0, len(append.kinds)}
    if answers is not None:
        assert [stored[each.flow_id] for each in appends] == answers
    repeated = await store.append_many(appends)
    for append, answer in zip(appends, repeated, strict=True):
        assert isinstance(answer, list)
        assert stored[append.flow_id] in ([], answer)
        assert await store.list(append.flow_id) == answer
        assert await store.get_artifact(append.artifacts[0].hash) == append.artifacts[0]


async def test_flows_of_one_call_share_one_transaction(
    store: PgEventStore, owner: Connection
) -> None:
    appends = drawn(64, ids_given=False)
    await store.append_many(appends)
    assert await owner.fetchval(TRANSACTIONS, [each.flow_id for each in appends]) == 1


async def test_more_appends_than_a_store_holds_are_admitted_one_after_another(
    provider: PoolProvider,
) -> None:
    store = PgEventStore(provider, max_waiting=5, max_waiting_bytes=2_000)
    answers = await store.append_many(drawn(30))
    assert [len(answer) for answer in answers if isinstance(answer, list)] == [2] * 30
    await store.append_kind(new_flow_id(), initialized())  # all have left
    await store.aclose()


async def test_a_call_that_is_not_admitted_in_time_is_abandoned(
    provider: PoolProvider, owner: Connection
) -> None:
    store = PgEventStore(provider, max_waiting=2, overload_timeout=0.05)
    appends = drawn(4)
    async with gate(owner, "event_log", "true"):
        with pytest.raises(StoreUnavailable, match="append 3 of 4 was not admitted"):
            await store.append_many(appends)
    await store.aclose()
    await see_each_once(PgEventStore(provider), appends, None)


async def test_a_closed_store_appends_nothing(store: PgEventStore) -> None:
    await store.aclose()
    with pytest.raises(StoreClosed):
        await store.append_many(drawn(2))


async def test_a_flow_that_is_locked_holds_up_no_other_one(
    store: PgEventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another transaction has begun one of the flows, and does not end."""
    monkeypatch.setattr(held_flows, "LONGEST_WAIT_SECONDS", 0.0)
    appends = drawn(3)
    async with store.transaction() as other:
        await other.append_kind(appends[1].flow_id, initialized(), expected_version=0)
        with pytest.raises(StoreUnavailable, match="1 of 3 appends may or may not be stored"):
            await store.append_many(appends)
    stored = await store.list_many([each.flow_id for each in appends])
    assert [len(stored[each.flow_id]) for each in appends] == [2, 1, 2]


async def test_a_stored_flow_is_not_refused_because_another_one_could_not_be_looked_at(
    store: PgEventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server cancels the reads that follow the statement, also those of the retry."""

    async def cancelled(*_: object, **__: object) -> None:
        raise asyncpg.QueryCanceledError("canceling statement due to statement timeout")

    stored, conflicting = drawn(2, ids_given=False)
    await store.append_kind(conflicting.flow_id, initialized())
    monkeypatch.setattr(place_events, "settle", cancelled)
    with pytest.raises(StoreUnavailable, match="1 of 2 appends"):
        await store.append_many([stored, conflicting])
    assert len(await store.list(stored.flow_id)) == 2


@pytest.mark.parametrize("strike", [Strike.CUT_BEFORE, Strike.CUT_AFTER])
async def test_a_connection_cut_at_any_message_leaves_each_flow_once(
    proxy: Proxy, through: PgEventStore, store: PgEventStore, strike: Strike
) -> None:
    await through.append_many(drawn(2))
    for nth in count(1):
        appends, answers = drawn(3), None
        fault = proxy.arm(Fault(strike, nth=nth))
        async with asyncio.timeout(60):
            try:
                answers = await through.append_many(appends)
            except StoreUnavailable:
                assert fault.struck.is_set()
        await see_each_once(store, appends, answers)
        if not fault.struck.is_set():
            break
    assert nth > 10


@pytest.mark.parametrize("ids_given", [True, False])
async def test_a_call_whose_reply_is_lost_returns_the_original_events(
    *, proxy: Proxy, through: PgEventStore, store: PgEventStore, ids_given: bool
) -> None:
    await through.append_many(drawn(2, ids_given=ids_given))
    appends = drawn(3, ids_given=ids_given)
    fault = proxy.arm(Fault(Strike.CUT_BEFORE, gives_a_stored_event))
    answers = await through.append_many(appends)
    assert fault.struck.is_set()
    assert [await store.list(each.flow_id) for each in appends] == answers


async def test_a_call_cancelled_in_the_queue_stores_nothing(
    provider: PoolProvider, pool: Pool
) -> None:
    store, appends = PgEventStore(provider), drawn(3)
    await store.append_kind(new_flow_id(), initialized())
    calling = asyncio.create_task(store.append_many(appends))
    await asyncio.sleep(0)  # until all are queued, before a writer takes them
    calling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await calling
    await store.append_kind(new_flow_id(), StepSignal(0, "acquire", "after"))
    await store.aclose()
    assert pool.get_idle_size() == pool.get_size()
    assert await PgEventStore(provider).list_many([each.flow_id for each in appends]) == {
        each.flow_id: [] for each in appends
    }


async def test_a_call_cancelled_under_way_leaves_each_flow_whole_or_not_at_all(
    provider: PoolProvider, pool: Pool, owner: Connection
) -> None:
    store, appends = PgEventStore(provider), drawn(3)
    async with gate(owner, "event_log", "true"):
        calling = asyncio.create_task(store.append_many(appends))
        async with asyncio.timeout(60):
            while not await pool.fetchval(WAITING):
                pass
        calling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await calling
    await store.aclose()
    assert pool.get_idle_size() == pool.get_size()
    await see_each_once(PgEventStore(provider), appends, None)
