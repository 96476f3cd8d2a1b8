"""A store that knows of lost events reports them once; nothing else is mistaken for a loss.

The log is cut by a superuser, as a failover or a restore cuts it: it ends at an earlier state of
itself, and may then be filled again by others. Real failovers are in tests/postgres/lives/.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext, suppress
from typing import Any, TypeAlias
from uuid import UUID

import asyncpg
import msgspec
import pytest
from uuid_utils.compat import uuid7

from chem_persistence import (
    ConcurrencyConflict,
    FlowEngine,
    FlowEvent,
    FlowEventKind,
    HistoryLost,
    PgEventStore,
    PgFlowRepository,
    PoolProvider,
    Step,
    StepContext,
    StepSignal,
    StoreError,
    build_pool,
)
from chem_persistence.postgres.connection.ports import Connection
from tests.support.flows.flows import new_flow_id

Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"
Append: TypeAlias = Callable[[PgEventStore, UUID], Awaitable[object]]

TERMINATE = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid()
    ORDER BY random() LIMIT 1
"""


class ChangedItsMind(Exception):
    """A transaction that is rolled back."""


def signals(count: int = 1, data: object = None) -> list[StepSignal]:
    return [StepSignal(0, "acquire", "progress", data) for _ in range(count)]


@pytest.fixture
async def store(provider: PoolProvider) -> AsyncIterator[PgEventStore]:
    store = PgEventStore(provider)
    yield store
    await store.aclose()


@pytest.fixture
async def administrator(admin_url: str) -> "AsyncIterator[asyncpg.Connection[asyncpg.Record]]":
    connection = await asyncpg.connect(admin_url)
    yield connection
    await connection.close()


async def cut(
    administrator: "asyncpg.Connection[asyncpg.Record]", flow_id: UUID, version: int
) -> None:
    """Delete the events of a flow from a version on."""
    async with administrator.transaction():
        await administrator.execute("SET LOCAL session_replication_role = replica")
        await administrator.execute(
            "DELETE FROM event_log WHERE flow_id = $1 AND version >= $2", flow_id, version
        )


async def append_at_the_end(store: PgEventStore, flow_id: UUID) -> object:
    return await store.append_kind(flow_id, signals()[0])


async def append_where_it_ended(store: PgEventStore, flow_id: UUID) -> object:
    return await store.append_kind(flow_id, signals()[0], expected_version=6)


async def append_with_ids(store: PgEventStore, flow_id: UUID) -> object:
    return await store.append_kinds(flow_id, signals(3), event_ids=[uuid7() for _ in range(3)])


async def append_in_a_transaction(store: PgEventStore, flow_id: UUID) -> object:
    async with store.transaction() as tx:
        return await tx.append_kind(flow_id, signals()[0])


async def append_among_others(store: PgEventStore, flow_id: UUID) -> object:
    """Append to others, and to the flow several times at once; each call on the flow fails.

    The first call of all may store its append by itself; the others share a batch.
    """
    others = [store.append_kind(new_flow_id(), signals()[0]) for _ in range(20)]
    own = [store.append_kind(flow_id, signals()[0]) for _ in range(3)]
    answers = await asyncio.gather(*others, *own, return_exceptions=True)
    assert all(isinstance(answer, FlowEvent) for answer in answers[:20])
    assert all(isinstance(answer, HistoryLost) for answer in answers[20:])
    raise next(answer for answer in answers if isinstance(answer, HistoryLost))


APPENDS = [
    append_at_the_end,
    append_where_it_ended,
    append_with_ids,
    append_in_a_transaction,
    append_among_others,
]


@pytest.mark.superuser
@pytest.mark.parametrize(
    ("kept", "refilled"), [(0, 0), (3, 0), (5, 0), (0, 6), (3, 2), (3, 3), (5, 1), (3, 9)]
)
@pytest.mark.parametrize("append", APPENDS)
async def test_what_was_acknowledged_and_is_gone_is_told_once(
    pool: Pool,
    administrator: "asyncpg.Connection[asyncpg.Record]",
    append: Append,
    kept: int,
    refilled: int,
) -> None:
    """The flow is shorter than it was, as long, or longer."""
    store, flow_id = PgEventStore(PoolProvider(pool)), new_flow_id()
    await store.append_kinds(flow_id, signals(6))
    await cut(administrator, flow_id, kept)
    other = PgEventStore(PoolProvider(pool))
    if refilled:
        await other.append_kinds(flow_id, signals(refilled, "another life"))
    with pytest.raises(HistoryLost) as lost:
        await append(store, flow_id)
    assert (lost.value.flow_id, lost.value.known, lost.value.found) == (
        flow_id,
        6,
        kept + refilled,
    )
    went_on = await store.append_kind(flow_id, signals()[0])
    assert went_on.version == kept + refilled
    assert [event.version for event in await store.list(flow_id)] == list(
        range(went_on.version + 1)
    )


class Forgetful(PgEventStore):
    """A store without any knowledge of heads at each append, as if it had just been opened."""

    def __init__(self, pool: Pool) -> None:
        super().__init__(PoolProvider(pool))
        self._pool = pool

    async def append_kinds(
        self, flow_id: UUID, kinds: Sequence[FlowEventKind], **options: Any
    ) -> list[FlowEvent]:
        return await PgEventStore(PoolProvider(self._pool)).append_kinds(flow_id, kinds, **options)


class Number(msgspec.Struct):
    value: int


class Cutting(Step[Number, Number]):
    """A step during which the log goes back to this many events of the flow."""

    id = "cutting"

    def __init__(self, connection: "asyncpg.Connection[asyncpg.Record]", kept: int) -> None:
        self._connection, self._kept = connection, kept

    async def run(self, number: Number, context: StepContext) -> Number:
        await cut(self._connection, context.flow_id, self._kept)
        return number


@pytest.mark.superuser
@pytest.mark.parametrize("kept", [0, 1])
@pytest.mark.parametrize("open_store", [Forgetful, lambda pool: PgEventStore(PoolProvider(pool))])
async def test_the_engine_is_told_that_its_flow_is_shorter_than_it_was(
    pool: Pool,
    administrator: "asyncpg.Connection[asyncpg.Record]",
    open_store: Callable[[Pool], PgEventStore],
    kept: int,
) -> None:
    repository = PgFlowRepository(PoolProvider(pool))
    builder = FlowEngine.builder(open_store(pool), repository)
    flow_id = new_flow_id()
    engine = builder.first_step(Cutting(administrator, kept)).build()
    with pytest.raises(HistoryLost) as lost:
        await engine.run_to_end(flow_id, Number(1))
    assert (lost.value.flow_id, lost.value.known, lost.value.found) == (flow_id, 2, kept)


@pytest.mark.superuser
@pytest.mark.parametrize("kept", [0, 1, 5])
async def test_what_was_read_and_is_gone_is_told(
    store: PgEventStore,
    pool: Pool,
    administrator: "asyncpg.Connection[asyncpg.Record]",
    kept: int,
) -> None:
    """Another process appended the event; this one knows of it by a conflict."""
    flow_id = new_flow_id()
    await PgEventStore(PoolProvider(pool)).append_kinds(flow_id, signals(6))
    with pytest.raises(ConcurrencyConflict):
        await store.append_kind(flow_id, signals()[0], expected_version=2)
    await cut(administrator, flow_id, kept)
    with pytest.raises(HistoryLost) as lost:
        await store.append_kind(flow_id, signals()[0])
    assert (lost.value.known, lost.value.found) == (6, kept)


@pytest.mark.superuser
async def test_a_conflict_below_what_is_known_does_not_hide_the_loss(
    store: PgEventStore, administrator: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    flow_id = new_flow_id()
    await store.append_kinds(flow_id, signals(6))
    await cut(administrator, flow_id, 4)
    with pytest.raises(HistoryLost):
        await store.append_kind(flow_id, signals()[0], expected_version=2)


@pytest.mark.superuser
async def test_a_transaction_can_still_be_used_after_the_loss_was_told(
    store: PgEventStore, administrator: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    flow_id = new_flow_id()
    await store.append_kinds(flow_id, signals(6))
    await cut(administrator, flow_id, 4)
    async with store.transaction() as tx:
        with pytest.raises(HistoryLost):
            await tx.append_kind(flow_id, signals()[0])
        assert (await tx.append_kind(flow_id, signals()[0])).version == 4
    assert len(await store.list(flow_id)) == 5


@pytest.mark.superuser
async def test_an_append_that_is_stored_all_the_same_is_recognised(
    store: PgEventStore, administrator: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    """The events after the append are lost, but those of the append are there."""
    flow_id, event_ids = new_flow_id(), [uuid7(), uuid7()]
    events = await store.append_kinds(flow_id, signals(2), event_ids=event_ids)
    await store.append_kinds(flow_id, signals(2))
    await cut(administrator, flow_id, 2)
    assert await store.append_kinds(flow_id, signals(2), event_ids=event_ids) == events


@pytest.mark.parametrize("expected", [3, 7, 2**31 - 2])
async def test_a_caller_that_expects_more_events_reads_that_the_log_may_have_gone_back(
    store: PgEventStore, expected: int
) -> None:
    flow_id = new_flow_id()
    await store.append_kinds(flow_id, signals(2))
    with pytest.raises(ConcurrencyConflict, match="the log went back") as conflict:
        await store.append_kind(flow_id, signals()[0], expected_version=expected)
    assert (conflict.value.expected, conflict.value.actual) == (expected, 2)


async def test_a_first_append_that_conflicts_is_no_loss(store: PgEventStore, pool: Pool) -> None:
    """The head of an empty flow has no event that could be lost."""
    flow_id = new_flow_id()
    await PgEventStore(PoolProvider(pool)).append_kinds(flow_id, signals(2))
    with pytest.raises(ConcurrencyConflict):
        await store.append_kind(flow_id, signals()[0], expected_version=0)
    assert (await store.append_kind(flow_id, signals()[0])).version == 2


async def test_a_savepoint_that_is_rolled_back_is_no_loss(store: PgEventStore) -> None:
    flow_id = new_flow_id()
    await store.append_kind(flow_id, signals()[0])
    async with store.transaction() as tx:
        await tx.append_kind(flow_id, signals()[0])
        with suppress(ChangedItsMind):
            async with tx.connection.transaction():
                await tx.append_kinds(flow_id, signals(3))
                raise ChangedItsMind
        assert (await tx.append_kind(flow_id, signals()[0])).version == 2
    assert (await store.append_kind(flow_id, signals()[0])).version == 3


async def test_a_transaction_that_is_rolled_back_is_no_loss(store: PgEventStore) -> None:
    flow_id = new_flow_id()
    for _ in range(3):
        with suppress(ChangedItsMind):
            async with store.transaction() as tx:
                await tx.append_kinds(flow_id, signals(3))
                raise ChangedItsMind
        await store.append_kind(flow_id, signals()[0])
    assert len(await store.list(flow_id)) == 3


class Borrowed:
    """A provider of one connection, in whatever transaction it is."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def acquire(self) -> "AbstractAsyncContextManager[Connection]":
        return nullcontext(self._connection)


async def test_a_store_on_a_connection_of_an_open_transaction_trusts_nothing_of_it(
    pool: Pool,
) -> None:
    flow_id = new_flow_id()
    async with pool.acquire() as connection:
        store = PgEventStore(Borrowed(connection))
        for _ in range(3):
            with suppress(ChangedItsMind):
                async with connection.transaction():
                    await store.append_kinds(flow_id, signals(3))
                    raise ChangedItsMind
            await store.append_kind(flow_id, signals()[0])
        await store.aclose()
    assert len(await PgEventStore(PoolProvider(pool)).list(flow_id)) == 3


DRIVER_ERRORS = (asyncpg.InterfaceError, asyncpg.InternalClientError)


async def write(store: PgEventStore, flow_ids: list[UUID], chance: random.Random) -> list[str]:
    """Append in all ways, partly rolled back; return the names of the errors raised."""
    raised: list[str] = []
    for _ in range(60):
        flow_id = chance.choice(flow_ids)
        try:
            if chance.random() < 0.2:
                await _in_transaction(store, flow_id, chance)
            elif chance.random() < 0.3:
                version = chance.randrange(40)
                await store.append_kind(flow_id, signals()[0], expected_version=version)
            else:
                await store.append_kinds(flow_id, signals(chance.randint(1, 3)))
        except (ChangedItsMind, StoreError, ConcurrencyConflict):
            continue
        except (asyncpg.PostgresError, *DRIVER_ERRORS, OSError):
            continue  # the caller's own statements: a session that was terminated
        except Exception as error:  # noqa: BLE001  # it fails the test
            raised.append(repr(error))
    return raised


async def _in_transaction(store: PgEventStore, flow_id: UUID, chance: random.Random) -> None:
    async with store.transaction() as tx:
        await tx.append_kind(flow_id, signals()[0])
        with suppress(ChangedItsMind):
            async with tx.connection.transaction():
                await tx.append_kinds(flow_id, signals(2))
                raise ChangedItsMind
        await tx.append_kind(flow_id, signals()[0])
        if chance.random() < 0.5:
            raise ChangedItsMind


@pytest.mark.slow
async def test_many_writers_with_savepoints_rollbacks_and_kills_are_told_of_no_loss(
    database_url: str, pool: Pool
) -> None:
    flow_ids = [new_flow_id() for _ in range(4)]
    done = asyncio.Event()

    async def kill() -> None:
        while not done.is_set():
            with suppress(asyncpg.PostgresError, *DRIVER_ERRORS, OSError):
                await pool.execute(TERMINATE)
            await asyncio.sleep(0.05)

    killing = asyncio.create_task(kill())
    raised: list[str] = []
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(_write_as_a_process(database_url, flow_ids, seed))
            for seed in range(3)
        ]
    for task in tasks:
        raised += task.result()
    done.set()
    await killing
    assert raised == []


async def _write_as_a_process(url: str, flow_ids: list[UUID], seed: int) -> list[str]:
    async with await build_pool(url, min_size=0, max_size=3) as pool:
        store = PgEventStore(PoolProvider(pool))
        written = await asyncio.gather(
            *(write(store, flow_ids, random.Random(100 * seed + task)) for task in range(4))
        )
        await store.aclose()
    return [error for errors in written for error in errors]


@pytest.mark.superuser
async def test_a_table_that_is_rewritten_is_no_loss(
    store: PgEventStore, administrator: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    flow_id = new_flow_id()
    await store.append_kinds(flow_id, signals(6))
    position = await store.position()
    await administrator.execute("VACUUM FULL event_log")
    await administrator.execute("REINDEX TABLE event_log")
    (event,) = await store.append_kinds(flow_id, signals())
    assert event.version == 6
    assert await store.read_feed(after_seq=position) == [event]
    with pytest.raises(ConcurrencyConflict):
        await store.append_kind(flow_id, signals()[0], expected_version=2)
