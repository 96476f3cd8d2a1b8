"""An append and the caller's own rows in one transaction, and the graceful end of a store."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from uuid import UUID

import asyncpg
import pytest
from uuid_utils.compat import uuid7

from chem_persistence import (
    Artifact,
    ArtifactNotFound,
    ConcurrencyConflict,
    InvalidPayload,
    PgEventStore,
    PoolProvider,
    StepFinished,
    StepSignal,
    StepStarted,
    StoreClosed,
    StoreError,
    StoreUnavailable,
)
from chem_persistence.postgres.append.transaction import PgTransaction
from tests.support.flows.flows import initialized, new_flow_id

INSERT_OUTBOX = "INSERT INTO outbox (event_id) VALUES ($1) ON CONFLICT DO NOTHING"
ARTIFACT = Artifact.from_payload(kind="Molecule", payload={"smiles": "CCO"})


@pytest.fixture
async def store(
    pool: "asyncpg.Pool[asyncpg.Record]", admin_url: str
) -> AsyncIterator[PgEventStore]:
    """Yield a store in a database that also holds the caller's own table."""
    administrator = await asyncpg.connect(admin_url)
    await administrator.execute("CREATE TABLE outbox (event_id uuid PRIMARY KEY)")
    await administrator.execute("GRANT SELECT, INSERT ON outbox TO PUBLIC")
    await administrator.close()
    yield PgEventStore(PoolProvider(pool))
    assert pool.get_idle_size() == pool.get_size()


async def outbox(pool: "asyncpg.Pool[asyncpg.Record]") -> list[UUID]:
    return [
        row["event_id"] for row in await pool.fetch("SELECT event_id FROM outbox ORDER BY event_id")
    ]


async def append_with_outbox(tx: PgTransaction, flow_id: UUID, event_id: UUID) -> None:
    event = await tx.append_kind(
        flow_id,
        StepFinished(0, "acquire", (ARTIFACT.hash,), "f"),
        artifacts=[ARTIFACT],
        event_id=event_id,
    )
    await tx.connection.execute(INSERT_OUTBOX, event.event_id)


async def test_an_append_and_the_callers_rows_commit_together(
    store: PgEventStore, pool: "asyncpg.Pool[asyncpg.Record]"
) -> None:
    flow_id, event_id = new_flow_id(), uuid7()
    async with store.transaction() as tx:
        await append_with_outbox(tx, flow_id, event_id)
        assert await store.list(flow_id) == []
        assert await outbox(pool) == []
    assert (
        [event.event_id for event in await store.list(flow_id)] == await outbox(pool) == [event_id]
    )


async def test_what_the_block_raises_keeps_neither(
    store: PgEventStore, pool: "asyncpg.Pool[asyncpg.Record]"
) -> None:
    flow_id = new_flow_id()

    async def block() -> None:
        async with store.transaction() as tx:
            await append_with_outbox(tx, flow_id, uuid7())
            raise RuntimeError("changed my mind")

    with pytest.raises(RuntimeError, match="changed my mind"):
        await block()
    assert (await store.list(flow_id), await outbox(pool)) == ([], [])
    with pytest.raises(ArtifactNotFound):
        await store.get_artifact(ARTIFACT.hash)


async def test_an_error_that_the_block_has_caught_does_not_commit_silently(
    store: PgEventStore,
) -> None:
    """The server has aborted the transaction, and rolls it back at its COMMIT without an error."""
    flow_id = new_flow_id()

    async def block() -> None:
        async with store.transaction() as tx:
            await tx.append_kind(flow_id, initialized())
            with suppress(asyncpg.DivisionByZeroError):
                await tx.connection.execute("SELECT 1 / 0")

    with pytest.raises(StoreError, match="a statement of the block has failed"):
        await block()
    assert await store.list(flow_id) == []


async def test_an_error_that_the_block_has_caught_in_a_savepoint_is_none(
    store: PgEventStore,
) -> None:
    flow_id = new_flow_id()
    async with store.transaction() as tx:
        event = await tx.append_kind(flow_id, initialized())
        with suppress(asyncpg.DivisionByZeroError):
            async with tx.connection.transaction():
                await tx.connection.execute("SELECT 1 / 0")
    assert await store.list(flow_id) == [event]


@pytest.mark.parametrize(("end", "events"), [("ROLLBACK", 0), ("COMMIT", 1)])
async def test_a_block_that_ends_its_transaction_itself_is_told(
    end: str, events: int, store: PgEventStore
) -> None:
    flow_id = new_flow_id()

    async def block() -> None:
        async with store.transaction() as tx:
            await tx.append_kind(flow_id, initialized())
            await tx.connection.execute(end)

    with pytest.raises(StoreError, match="has ended the transaction"):
        await block()
    assert len(await store.list(flow_id)) == events


async def test_the_block_done_again_after_a_lost_reply_writes_nothing_twice(
    store: PgEventStore, pool: "asyncpg.Pool[asyncpg.Record]"
) -> None:
    flow_id, event_id = new_flow_id(), uuid7()
    for _ in range(2):
        async with store.transaction() as tx:
            await append_with_outbox(tx, flow_id, event_id)
    assert (
        [event.event_id for event in await store.list(flow_id)] == await outbox(pool) == [event_id]
    )


async def test_appends_of_one_transaction_follow_each_other(store: PgEventStore) -> None:
    flow_id = new_flow_id()
    async with store.transaction() as tx:
        first = await tx.append_kind(flow_id, initialized(), expected_version=0)
        second = await tx.append_kind(flow_id, StepStarted(0, "acquire"), expected_version=1)
        third = await tx.append_kind(flow_id, StepSignal(0, "acquire", "said"))
    assert await store.list(flow_id) == [first, second, third]


async def test_a_conflict_leaves_the_transaction_usable(store: PgEventStore) -> None:
    flow_id = new_flow_id()
    await store.append_kind(flow_id, initialized())
    async with store.transaction() as tx:
        for taken in (0, 5):
            with pytest.raises(ConcurrencyConflict):
                await tx.append_kind(flow_id, StepStarted(0, "acquire"), expected_version=taken)
        with pytest.raises(InvalidPayload):
            await tx.append_kind(flow_id, StepSignal(0, "acquire", "said", float("nan")))
        await tx.append_kind(flow_id, StepStarted(0, "acquire"), expected_version=1)
    assert [event.version for event in await store.list(flow_id)] == [0, 1]


async def test_two_transactions_on_one_flow_are_one_history(store: PgEventStore) -> None:
    flow_id = new_flow_id()

    async def append(writer: int) -> None:
        async with store.transaction() as tx:
            await tx.append_kinds(
                flow_id, [StepSignal(0, "acquire", "said", [writer, n]) for n in range(3)]
            )

    await asyncio.gather(*(append(writer) for writer in range(6)))
    events = await store.list(flow_id)
    assert [event.version for event in events] == list(range(18))
    said = [event.kind.data for event in events if isinstance(event.kind, StepSignal)]
    assert [writer for writer, _ in said[::3]] == [writer for writer, _ in said[1::3]]
    assert sorted(said) == [[writer, n] for writer in range(6) for n in range(3)]


async def test_the_callers_own_errors_stay_the_drivers(
    store: PgEventStore, pool: "asyncpg.Pool[asyncpg.Record]"
) -> None:
    flow_id = new_flow_id()

    async def block() -> None:
        async with store.transaction() as tx:
            await append_with_outbox(tx, flow_id, uuid7())
            await tx.connection.execute("INSERT INTO no_such_table VALUES (1)")

    with pytest.raises(asyncpg.UndefinedTableError):
        await block()
    assert (await store.list(flow_id), await outbox(pool)) == ([], [])


async def test_a_session_that_is_ended_in_the_block_keeps_nothing(
    store: PgEventStore, pool: "asyncpg.Pool[asyncpg.Record]"
) -> None:
    flow_id = new_flow_id()

    async def block() -> None:
        async with store.transaction() as tx:
            await append_with_outbox(tx, flow_id, uuid7())
            (row,) = await tx.connection.fetch("SELECT pg_backend_pid() AS pid")
            await pool.execute("SELECT pg_terminate_backend($1, 5000)", row["pid"])

    with pytest.raises(StoreUnavailable):
        await block()
    assert (await store.list(flow_id), await outbox(pool)) == ([], [])


@pytest.mark.parametrize("attempt", range(20))
async def test_a_session_that_is_ended_does_not_hide_why_the_block_was_left(
    store: PgEventStore, pool: "asyncpg.Pool[asyncpg.Record]", attempt: int
) -> None:
    """The driver notices before the rollback, in the middle of it or after it."""

    async def block() -> None:
        async with store.transaction() as tx:
            (row,) = await tx.connection.fetch("SELECT pg_backend_pid() AS pid")
            await pool.execute("SELECT pg_terminate_backend($1::integer)", row["pid"])
            raise KeyError(attempt)

    with pytest.raises(KeyError, match=str(attempt)):
        await block()


async def test_a_cancelled_block_keeps_nothing_and_gives_its_connection_back(
    store: PgEventStore, pool: "asyncpg.Pool[asyncpg.Record]"
) -> None:
    flow_id, reached = new_flow_id(), asyncio.Event()

    async def block() -> None:
        async with store.transaction() as tx:
            await append_with_outbox(tx, flow_id, uuid7())
            reached.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(block())
    await reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await store.list(flow_id), await outbox(pool)) == ([], [])


async def test_a_closed_store_takes_no_append_but_can_be_read(store: PgEventStore) -> None:
    flow_id = new_flow_id()
    event = await store.append_kind(flow_id, initialized())
    await store.aclose()
    with pytest.raises(StoreClosed):
        await store.append_kind(flow_id, StepStarted(0, "acquire"))
    with pytest.raises(StoreClosed):
        async with store.transaction():
            pass
    assert await store.list(flow_id) == [event]
    await store.aclose()


async def test_closing_waits_for_the_appends_that_were_accepted(store: PgEventStore) -> None:
    flow_ids = [new_flow_id() for _ in range(20)]
    appends = [
        asyncio.create_task(store.append_kind(flow_id, initialized())) for flow_id in flow_ids
    ]
    await asyncio.sleep(0)  # lets each of them begin
    await store.aclose()
    assert all(append.done() for append in appends)
    assert [len(await store.list(flow_id)) for flow_id in flow_ids] == [1] * 20


async def test_closing_has_a_deadline(store: PgEventStore) -> None:
    async with store.transaction():
        with pytest.raises(StoreUnavailable, match="1 appends were not done"):
            await store.aclose(timeout=0.01)
