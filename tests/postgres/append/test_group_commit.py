"""Appends that wait together are committed together, and each one gets its own answer."""

import asyncio
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypeAlias
from uuid import UUID

import asyncpg
import pytest
import uvloop
from uuid_utils.compat import uuid7

from chem_persistence import (
    Artifact,
    ConcurrencyConflict,
    EventIdReused,
    FlowEvent,
    InvalidArgument,
    PgEventStore,
    PoolProvider,
    StepFinished,
    StepSignal,
    StoreError,
    StoreUnavailable,
    build_pool,
)
from chem_persistence.postgres.append import held_flows
from chem_persistence.postgres.append.queue import MIN_SHARE
from chem_persistence.postgres.connection.jsonb import pass_jsonb_as_bytes
from tests.support.faults.gate import gate
from tests.support.flows.flows import initialized, new_flow_id

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"

WAITING = """
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND wait_event_type = 'Lock'
"""
TRANSACTIONS = (
    "SELECT count(DISTINCT xmin::text) FROM event_log WHERE flow_id = ANY ($1) AND version = 0"
)


@pytest.fixture
async def store(pool: Pool, provider: PoolProvider) -> AsyncIterator[PgEventStore]:
    store = PgEventStore(provider)
    yield store
    await store.aclose()
    assert pool.get_idle_size() == pool.get_size()


def said(text: str = "said") -> StepSignal:
    return StepSignal(0, "acquire", text)


async def until_waiting(connection: Connection, sessions: int) -> None:
    async with asyncio.timeout(60):
        while await connection.fetchval(WAITING) < sessions:
            pass


@asynccontextmanager
async def both_writers_busy(
    store: PgEventStore, owner: Connection, observer: Pool
) -> AsyncIterator[None]:
    """Block both writers with one append each, so that the appends of the block are queued."""
    flow_ids = [new_flow_id(), new_flow_id()]
    condition = f"NEW.flow_id IN ('{flow_ids[0]}', '{flow_ids[1]}')"
    async with gate(owner, "event_log", condition):
        busy = []
        for number, flow_id in enumerate(flow_ids):
            busy.append(
                asyncio.create_task(store.append_kind(flow_id, initialized(), expected_version=0))
            )
            async with observer.acquire() as connection:
                await until_waiting(connection, number + 1)  # type: ignore[arg-type]
        yield
    await asyncio.gather(*busy)


async def begun(*works: "asyncio.Future[list[FlowEvent]]") -> None:
    for _ in works:
        await asyncio.sleep(0)


async def test_appends_that_wait_share_the_next_transaction(
    store: PgEventStore, owner: Connection, pool: Pool
) -> None:
    assert await transactions_of(MIN_SHARE, store, owner, pool) == 1


async def test_a_crowd_is_divided_between_the_writers(
    store: PgEventStore, owner: Connection, pool: Pool
) -> None:
    assert 2 <= await transactions_of(4 * MIN_SHARE, store, owner, pool) <= 4


async def transactions_of(flows: int, store: PgEventStore, owner: Connection, pool: Pool) -> int:
    """Append to this many flows while both writers are busy; return the number of transactions."""
    flow_ids = [new_flow_id() for _ in range(flows)]
    async with both_writers_busy(store, owner, pool):
        tasks = [
            asyncio.create_task(store.append_kind(flow_id, initialized(), expected_version=0))
            for flow_id in flow_ids
        ]
        await asyncio.sleep(0)
    events = await asyncio.gather(*tasks)
    assert [(event.flow_id, event.version) for event in events] == [
        (flow_id, 0) for flow_id in flow_ids
    ]
    assert len({event.seq for event in events}) == flows
    count: int = await pool.fetchval(TRANSACTIONS, flow_ids)
    return count


async def test_a_distributed_log_gets_a_transaction_for_each_flow(
    store: PgEventStore, owner: Connection, pool: Pool
) -> None:
    """Citus marks the tables that it distributes with a trigger of this name."""
    await owner.execute(
        "CREATE FUNCTION citus_truncate_trigger() RETURNS trigger "
        "LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';"
        "CREATE TRIGGER truncate_trigger AFTER TRUNCATE ON event_log "
        "EXECUTE FUNCTION citus_truncate_trigger()"
    )
    flow_ids = [new_flow_id() for _ in range(20)]
    async with both_writers_busy(store, owner, pool):
        tasks = [
            asyncio.create_task(store.append_kinds(flow_id, [initialized(), said()]))
            for flow_id in flow_ids
        ]
        await asyncio.sleep(0)
    await asyncio.gather(*tasks)
    assert await pool.fetchval(TRANSACTIONS, flow_ids) == 20


async def test_a_flows_appends_are_stored_in_the_order_of_their_calls(
    store: PgEventStore, owner: Connection, pool: Pool
) -> None:
    flow_id = new_flow_id()
    async with both_writers_busy(store, owner, pool):
        tasks = [
            asyncio.create_task(store.append_kind(flow_id, said(str(number))))
            for number in range(100)
        ]
        await asyncio.sleep(0)
    events = await asyncio.gather(*tasks)
    assert [event.version for event in events] == list(range(100))
    assert await store.list(flow_id) == events


async def test_a_conflict_fails_its_own_caller_only(
    store: PgEventStore, owner: Connection, pool: Pool
) -> None:
    stale, others = new_flow_id(), [new_flow_id() for _ in range(10)]
    first = await store.append_kind(stale, initialized())
    async with both_writers_busy(store, owner, pool):
        conflicting = asyncio.create_task(store.append_kind(stale, said(), expected_version=0))
        next_one = asyncio.create_task(store.append_kind(stale, said("next"), expected_version=1))
        tasks = [
            asyncio.create_task(store.append_kind(flow_id, initialized())) for flow_id in others
        ]
        await asyncio.sleep(0)
    with pytest.raises(ConcurrencyConflict) as caught:
        await conflicting
    assert (caught.value.expected, caught.value.actual) == (0, 1)
    assert [event.version for event in await asyncio.gather(*tasks)] == [0] * 10
    second = await next_one
    assert await store.list(stale) == [first, second]


async def test_an_append_behind_one_that_conflicts_is_judged_by_itself(
    store: PgEventStore, provider: PoolProvider, owner: Connection, pool: Pool
) -> None:
    """Another writer stores an event first; both appends expect the version before it."""
    flow_id = new_flow_id()
    await store.append_kind(flow_id, initialized())
    other = PgEventStore(provider)
    async with both_writers_busy(store, owner, pool):
        first = asyncio.create_task(store.append_kind(flow_id, said("first"), expected_version=1))
        second = asyncio.create_task(store.append_kind(flow_id, said("second"), expected_version=2))
        third = asyncio.create_task(store.append_kind(flow_id, said("third")))
        await asyncio.sleep(0)
        await other.append_kind(flow_id, said("another's"))
    with pytest.raises(ConcurrencyConflict):
        await first
    assert [(await second).version, (await third).version] == [2, 3]
    assert [event.version for event in await other.list(flow_id)] == [0, 1, 2, 3]
    await other.aclose()


async def test_what_the_database_refuses_fails_its_own_caller_only(
    store: PgEventStore, owner: Connection, pool: Pool
) -> None:
    await owner.execute("ALTER TABLE event_log ADD CHECK (payload ->> 'signal' <> 'forbidden')")
    flow_ids = [new_flow_id() for _ in range(30)]
    async with both_writers_busy(store, owner, pool):
        tasks = [
            asyncio.create_task(
                store.append_kind(flow_id, said("forbidden" if number in {3, 17} else "allowed"))
            )
            for number, flow_id in enumerate(flow_ids)
        ]
        await asyncio.sleep(0)
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    for number, outcome in enumerate(outcomes):
        assert isinstance(outcome, StoreError if number in {3, 17} else FlowEvent)
    assert [len(await store.list(flow_id)) for flow_id in flow_ids] == [
        0 if number in {3, 17} else 1 for number in range(30)
    ]


async def test_an_append_behind_one_that_is_refused_takes_its_place(
    store: PgEventStore, owner: Connection, pool: Pool
) -> None:
    await owner.execute("ALTER TABLE event_log ADD CHECK (payload ->> 'signal' <> 'forbidden')")
    flow_id = new_flow_id()
    async with both_writers_busy(store, owner, pool):
        texts = ["before", "forbidden", "behind"]
        tasks = [asyncio.create_task(store.append_kind(flow_id, said(text))) for text in texts]
        expecting = asyncio.create_task(
            store.append_kind(flow_id, said("too far"), expected_version=3)
        )
        await asyncio.sleep(0)
    before, refused, behind, too_far = await asyncio.gather(
        *tasks, expecting, return_exceptions=True
    )
    assert isinstance(before, FlowEvent)
    assert isinstance(refused, StoreError)
    assert isinstance(behind, FlowEvent)
    assert isinstance(too_far, ConcurrencyConflict)
    assert await store.list(flow_id) == [before, behind]


async def test_event_ids_that_are_reused_fail_their_own_caller_only(
    store: PgEventStore, owner: Connection, pool: Pool
) -> None:
    flow_id, event_id, other = new_flow_id(), uuid7(), new_flow_id()
    original = await store.append_kind(flow_id, said("original"), event_id=event_id)
    async with both_writers_busy(store, owner, pool):
        reusing = asyncio.create_task(
            store.append_kind(flow_id, said("changed"), event_id=event_id)
        )
        repeating = asyncio.create_task(
            store.append_kind(flow_id, said("original"), event_id=event_id)
        )
        elsewhere = asyncio.create_task(store.append_kind(other, said(), event_id=event_id))
        await asyncio.sleep(0)
    with pytest.raises(EventIdReused):
        await reusing
    assert await repeating == original
    assert (await elsewhere).version == 0


async def test_flows_that_share_artifacts_in_one_batch_are_all_stored(
    store: PgEventStore, owner: Connection, pool: Pool
) -> None:
    shared = [Artifact.from_payload(kind="Molecule", payload={"n": number}) for number in range(5)]
    flow_ids = [new_flow_id() for _ in range(20)]
    async with both_writers_busy(store, owner, pool):
        tasks = [
            asyncio.create_task(
                store.append_kind(
                    flow_id,
                    StepFinished(0, "acquire", tuple(artifact.hash for artifact in shared), "f"),
                    artifacts=shared,
                )
            )
            for flow_id in flow_ids
        ]
        await asyncio.sleep(0)
    await asyncio.gather(*tasks)
    assert [await store.get_artifact(artifact.hash) for artifact in shared] == shared
    assert await pool.fetchval("SELECT count(*) FROM workflow_step_artifacts") == 5
    query = "SELECT count(*) FROM workflow_step_executions WHERE status = 'finished'"
    assert await pool.fetchval(query) == 20


# ---- locks of other transactions


async def test_a_flow_that_another_transaction_holds_holds_up_no_other_flow(
    store: PgEventStore, pool: Pool
) -> None:
    """Lock both flows that the writers work on, from the program that waits for the third."""
    held, free = [new_flow_id(), new_flow_id()], [new_flow_id() for _ in range(5)]
    async with store.transaction() as tx:
        for flow_id in held:
            await tx.append_kind(flow_id, initialized())
        waiting = [asyncio.create_task(store.append_kind(flow_id, said())) for flow_id in held]
        async with pool.acquire() as connection:
            await until_waiting(connection, 2)  # type: ignore[arg-type]
        stored = await asyncio.gather(
            *(store.append_kind(flow_id, initialized()) for flow_id in free)
        )
        assert not any(task.done() for task in waiting)
    assert [event.version for event in stored] == [0] * 5
    assert [event.version for event in await asyncio.gather(*waiting)] == [1, 1]


async def test_an_append_cancelled_while_it_waits_alone_leaves_its_flow_free(
    store: PgEventStore, pool: Pool
) -> None:
    flow_id, other = new_flow_id(), new_flow_id()
    async with store.transaction() as tx:
        await tx.append_kind(flow_id, initialized())
        waiting = asyncio.create_task(
            store.append_kind(flow_id, said("cancelled"), expected_version=0)
        )
        async with pool.acquire() as connection:
            await until_waiting(connection, 1)  # type: ignore[arg-type]
        await store.append_kind(other, initialized())
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    assert (await store.append_kind(flow_id, said("after"))).version == 1


async def test_many_flows_that_others_hold_leave_connections_for_the_rest(
    database_url: str, provider: PoolProvider
) -> None:
    held = [new_flow_id() for _ in range(6)]
    async with (
        await build_pool(database_url, max_size=3) as small,
        PgEventStore(provider).transaction() as tx,
    ):
        store = PgEventStore(PoolProvider(small, acquire_timeout=10))
        for flow_id in held:
            await tx.append_kind(flow_id, initialized())
        waiting = [asyncio.create_task(store.append_kind(flow_id, said())) for flow_id in held]
        async with asyncio.timeout(60):
            while len(store._writers._under_way) < len(held):
                await asyncio.sleep(0)
        for _ in range(50):
            flow_id = new_flow_id()
            event = await store.append_kind(flow_id, initialized())
            assert await store.list(flow_id) == [event]
        for task in waiting:
            task.cancel()
        await asyncio.wait(waiting)
        await store.aclose()


async def test_an_append_that_waits_for_its_own_programs_transaction_is_told_in_the_end(
    store: PgEventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(held_flows, "LONGEST_WAIT_SECONDS", 0.0)
    flow_id = new_flow_id()
    async with store.transaction() as tx:
        await tx.append_kind(flow_id, initialized())
        with pytest.raises(StoreUnavailable, match="held a lock on the flow"):
            await store.append_kind(flow_id, said())
    assert [event.version for event in await store.list(flow_id)] == [0]


async def test_a_crowd_on_a_flow_is_answered_while_another_store_appends_to_it_one_by_one(
    store: PgEventStore, provider: PoolProvider
) -> None:
    flow_id, other = new_flow_id(), PgEventStore(provider)

    async def go_on() -> None:
        while True:
            await other.append_kind(flow_id, said("one by one"))

    single = asyncio.create_task(go_on())
    async with asyncio.timeout(120):
        events = await asyncio.gather(*(store.append_kind(flow_id, said()) for _ in range(200)))
    single.cancel()
    await asyncio.wait([single])
    await other.aclose()
    assert len({event.version for event in events}) == 200
    stored = await store.list(flow_id)
    assert [event.version for event in stored] == list(range(len(stored)))


# ---- overload


async def test_an_append_above_the_limit_fails_and_loses_nothing_else(
    provider: PoolProvider, owner: Connection, pool: Pool
) -> None:
    store = PgEventStore(provider, max_waiting=4, overload_timeout=0.01)
    flow_ids = [new_flow_id() for _ in range(2)]
    async with both_writers_busy(store, owner, pool):
        accepted = [
            asyncio.create_task(store.append_kind(flow_id, initialized())) for flow_id in flow_ids
        ]
        await asyncio.sleep(0)
        with pytest.raises(StoreUnavailable, match="overloaded"):
            await store.append_kind(new_flow_id(), initialized())
    assert [event.version for event in await asyncio.gather(*accepted)] == [0, 0]
    await store.append_kind(new_flow_id(), initialized())
    await store.aclose()


@pytest.mark.parametrize("callers", [2_000, pytest.param(10_000, marks=pytest.mark.slow)])
async def test_thousands_of_callers_wait_in_a_bounded_queue_and_none_is_dropped(
    provider: PoolProvider, monkeypatch: pytest.MonkeyPatch, callers: int
) -> None:
    limit = 256 * 1024
    store = PgEventStore(provider, max_waiting=500, max_waiting_bytes=limit)
    fullest = [0, 0]
    backpressure = store._backpressure
    admit = backpressure.admit_at_once

    def admitting(size: int) -> bool:
        admitted = admit(size)
        fullest[0] = max(fullest[0], backpressure._admitted)
        fullest[1] = max(fullest[1], backpressure._admitted_bytes)
        return admitted

    monkeypatch.setattr(backpressure, "admit_at_once", admitting)
    flow_ids = [new_flow_id() for _ in range(callers)]

    async def caller(flow_id: UUID) -> FlowEvent:
        return await store.append_kind(flow_id, StepSignal(0, "acquire", "said", "x" * 1_000))

    events = await asyncio.gather(*map(caller, flow_ids))
    assert [event.flow_id for event in events] == flow_ids
    assert fullest[0] <= 500
    assert limit / 2 < fullest[1] <= limit
    assert (backpressure._admitted, backpressure._admitted_bytes) == (0, 0)
    await store.aclose()


async def test_callers_above_the_limit_take_no_memory_for_their_appends(
    provider: PoolProvider, owner: Connection, pool: Pool
) -> None:
    """500 callers append the same object of 200 KB to a store with a limit of 1 MiB."""
    store = PgEventStore(provider, max_waiting_bytes=2**20)
    shared = StepSignal(0, "acquire", "said", ["x" * 1_000] * 200)
    flow_ids = [new_flow_id() for _ in range(500)]
    async with both_writers_busy(store, owner, pool):
        tracemalloc.start()
        callers = [asyncio.create_task(store.append_kind(flow_id, shared)) for flow_id in flow_ids]
        await asyncio.sleep(0)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    events = await asyncio.gather(*callers)
    assert [(event.flow_id, event.kind) for event in events] == [
        (flow_id, shared) for flow_id in flow_ids
    ]
    assert peak < 10 * 2**20  # less than the 100 MB of all appends together
    await store.aclose()


# ---- connections


async def test_a_pool_of_one_connection_serves_writers_and_readers(database_url: str) -> None:
    async with await build_pool(database_url, max_size=1) as pool:
        store = PgEventStore(PoolProvider(pool))

        async def flow(number: int) -> int:
            flow_id = new_flow_id()
            for version in range(10):
                await store.append_kind(flow_id, said(str(number)), expected_version=version)
                await store.list(flow_id)
            return len(await store.list(flow_id))

        assert await asyncio.gather(*map(flow, range(8))) == [10] * 8
        await store.aclose()


async def test_an_idle_store_holds_no_connection(store: PgEventStore, pool: Pool) -> None:
    await store.append_kind(new_flow_id(), initialized())
    async with asyncio.timeout(60):
        while pool.get_idle_size() < pool.get_size():
            await asyncio.sleep(0)


async def test_a_pool_that_is_lost_while_a_writer_lingers_is_no_accident(
    store: PgEventStore, owner: Connection
) -> None:
    """The server ends the session that the writer still holds."""
    flow_id = new_flow_id()
    first = await store.append_kind(flow_id, initialized())
    await owner.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    second = await store.append_kind(flow_id, said())
    assert await store.list(flow_id) == [first, second]


class Connecting:
    """Opens a connection for each use, on any event loop."""

    def __init__(self, url: str) -> None:
        self._url = url

    @asynccontextmanager
    async def acquire(self) -> AsyncIterator[Connection]:
        connection = await asyncpg.connect(self._url)
        await pass_jsonb_as_bytes(connection)
        yield connection
        await connection.close()


def test_a_store_goes_on_in_another_event_loop(database_url: str) -> None:
    store, flow_id = PgEventStore(Connecting(database_url)), new_flow_id()
    events = [
        asyncio.run(store.append_kind(flow_id, kind)) for kind in (initialized(), said(), said())
    ]
    assert [event.version for event in events] == [0, 1, 2]


async def test_a_store_is_in_one_event_loop_at_a_time(
    store: PgEventStore, owner: Connection, pool: Pool
) -> None:
    async with both_writers_busy(store, owner, pool):
        with pytest.raises(InvalidArgument, match="another event loop"):
            await asyncio.to_thread(asyncio.run, store.append_kind(new_flow_id(), initialized()))


def test_a_store_works_on_uvloop_as_it_does_on_asyncio(database_url: str) -> None:
    async def main() -> None:
        async with await build_pool(database_url) as pool:
            store = PgEventStore(PoolProvider(pool))
            flow_ids = [new_flow_id() for _ in range(50)]
            for version in range(3):
                await asyncio.gather(
                    *(
                        store.append_kind(flow_id, said(), expected_version=version)
                        for flow_id in flow_ids
                    )
                )
            assert [len(await store.list(flow_id)) for flow_id in flow_ids] == [3] * 50
            await store.aclose()
            assert pool.get_idle_size() == pool.get_size()

    uvloop.run(main())
