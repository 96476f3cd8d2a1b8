"""Appends whose connection breaks at a message: stored once, or not at all."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from itertools import count
from uuid import UUID

import asyncpg
import msgspec
import pytest
from uuid_utils.compat import uuid7

from chem_persistence import (
    Artifact,
    ArtifactNotFound,
    ConcurrencyConflict,
    FlowEvent,
    FlowEventKind,
    PgEventStore,
    PoolProvider,
    StepFinished,
    StepSignal,
    StepStarted,
    StoreUnavailable,
    build_pool,
)
from chem_persistence.postgres.connection.jsonb import pass_jsonb_as_bytes
from tests.support.faults.proxy import Fault, Proxy, Strike, proxied
from tests.support.flows.flows import initialized, new_flow_id
from tests.support.flows.messages import (
    answers_an_append,
    ends_an_append,
    gives_a_stored_event,
    sends_an_append,
)

CUTS = [Strike.CUT_BEFORE, Strike.CUT_AFTER]


class Append(msgspec.Struct, frozen=True):
    """An append to the end of a flow with one event; no two of them are equal."""

    flow_id: UUID
    kinds: list[FlowEventKind]
    event_ids: list[UUID]
    artifacts: list[Artifact]
    expected_version: int | None

    async def run(self, store: PgEventStore, *, ids_given: bool = True) -> list[FlowEvent]:
        return await store.append_kinds(
            self.flow_id,
            self.kinds,
            artifacts=self.artifacts,
            expected_version=self.expected_version,
            event_ids=self.event_ids if ids_given else None,
            metadata={"actor": "Ada"},
        )


def molecule() -> Artifact:
    return Artifact.from_payload(kind="Molecule", payload={"name": str(uuid7())})


def with_an_artifact(expected_version: int | None) -> Append:
    artifact = molecule()
    finished = StepFinished(0, "acquire", (artifact.hash,), "f" * 64)
    return Append(new_flow_id(), [finished], [uuid7()], [artifact], expected_version)


def with_events_only(expected_version: int | None) -> Append:
    return Append(
        new_flow_id(), [StepSignal(0, "acquire", "said")], [uuid7()], [], expected_version
    )


def with_a_batch(expected_version: int | None) -> Append:
    artifacts = [molecule(), molecule()]
    kinds: list[FlowEventKind] = [
        StepStarted(0, "acquire"),
        StepSignal(0, "acquire", "said", {"x": 1.5}),
        StepFinished(0, "acquire", tuple(artifact.hash for artifact in artifacts), "f" * 64),
        StepStarted(1, "compute"),
    ]
    return Append(new_flow_id(), kinds, [uuid7() for _ in kinds], artifacts, expected_version)


MADE_BY = [with_an_artifact, with_events_only, with_a_batch]


@pytest.fixture
async def proxy(database_url: str) -> AsyncIterator[Proxy]:
    async with proxied(database_url) as proxy:
        yield proxy


@pytest.fixture
async def store(proxy: Proxy) -> AsyncIterator[PgEventStore]:
    """Yield a store whose only connection goes through the proxy."""
    async with await build_pool(proxy.url, min_size=0, max_size=1) as pool:
        yield PgEventStore(PoolProvider(pool))


@pytest.fixture
def witness(provider: PoolProvider) -> PgEventStore:
    """Return a store on the same database without any fault."""
    return PgEventStore(provider)


async def begin(witness: PgEventStore, append: Append) -> Append:
    await witness.append_kind(append.flow_id, initialized(), expected_version=0)
    return append


async def has_artifact(witness: PgEventStore, artifact: Artifact) -> bool:
    try:
        return await witness.get_artifact(artifact.hash) == artifact
    except ArtifactNotFound:
        return False


async def see_it_once(
    witness: PgEventStore, append: Append, acknowledged: Sequence[FlowEvent] | None
) -> None:
    """Check that the log has the append once (or not at all if unacknowledged), and repeat it."""
    _, *stored = await witness.list(append.flow_id)
    assert [event.version for event in stored] == list(range(1, 1 + len(stored)))
    if acknowledged is None:
        assert len(stored) in {0, len(append.kinds)}
    else:
        assert stored == list(acknowledged)
    for artifact in append.artifacts:
        assert await has_artifact(witness, artifact) == bool(stored)
    originals = stored or await append.run(witness)
    assert [event.event_id for event in originals] == append.event_ids
    assert [event.kind for event in originals] == append.kinds
    assert await append.run(witness) == originals
    assert await append.run(witness) == (await witness.list(append.flow_id))[1:]


async def sweep(
    proxy: Proxy,
    strike: Strike,
    attempt: Callable[[], Awaitable[tuple[Append, list[FlowEvent] | None]]],
    witness: PgEventStore,
) -> int:
    """Break the connection at message 1, 2, ... of an append, until one append is not broken."""
    for n in count(1):
        fault = proxy.arm(Fault(strike, nth=n))
        append, acknowledged = await attempt()
        if not fault.struck.is_set():
            assert acknowledged is not None
            return n - 1
        await see_it_once(witness, append, acknowledged)
    raise AssertionError


async def acknowledged_by(append: Append, store: PgEventStore) -> list[FlowEvent] | None:
    try:
        return await append.run(store)
    except StoreUnavailable as error:
        assert error.__cause__ is not None  # noqa: PT017  # the error is one of two valid results
        return None


@pytest.mark.parametrize(
    ("made_by", "expected_version", "strike"),
    [
        (with_an_artifact, 1, Strike.CUT_BEFORE),
        (with_an_artifact, 1, Strike.CUT_AFTER),
        (with_events_only, None, Strike.CUT_BEFORE),
        (with_events_only, None, Strike.CUT_AFTER),
        (with_a_batch, None, Strike.CUT_AFTER),
        pytest.param(with_a_batch, None, Strike.CUT_BEFORE, marks=pytest.mark.slow),
        *(
            pytest.param(made_by, version, strike, marks=pytest.mark.slow)
            for made_by, version in [
                (with_an_artifact, None),
                (with_events_only, 1),
                (with_a_batch, 1),
            ]
            for strike in CUTS
        ),
    ],
)
async def test_a_connection_cut_at_any_message_of_an_append_leaves_it_once(
    *,
    proxy: Proxy,
    store: PgEventStore,
    witness: PgEventStore,
    made_by: Callable[[int | None], Append],
    expected_version: int | None,
    strike: Strike,
) -> None:
    await store.append_kind(new_flow_id(), initialized())

    async def attempt() -> tuple[Append, list[FlowEvent] | None]:
        append = await begin(witness, made_by(expected_version))
        return append, await acknowledged_by(append, store)

    assert await sweep(proxy, strike, attempt, witness) >= 10


@pytest.mark.slow
@pytest.mark.parametrize(
    ("made_by", "strike"),
    [(made_by, strike) for made_by in (with_events_only, with_a_batch) for strike in CUTS],
)
async def test_a_connection_cut_at_any_message_from_its_startup_on_leaves_the_append_once(
    proxy: Proxy, witness: PgEventStore, made_by: Callable[[int | None], Append], strike: Strike
) -> None:
    async def attempt() -> tuple[Append, list[FlowEvent] | None]:
        append = await begin(witness, made_by(None))
        pool = await asyncpg.create_pool(
            proxy.url, min_size=0, max_size=1, init=pass_jsonb_as_bytes
        )
        async with pool:
            return append, await acknowledged_by(append, PgEventStore(PoolProvider(pool)))

    assert await sweep(proxy, strike, attempt, witness) >= 30


async def warmed(store: PgEventStore, made_by: Callable[[int | None], Append]) -> None:
    """Open the connection and prepare the statements."""
    await made_by(None).run(store)


@pytest.mark.parametrize("ids_given", [True, False])
@pytest.mark.parametrize("made_by", MADE_BY)
async def test_an_append_whose_reply_is_lost_returns_the_original_events(
    *,
    proxy: Proxy,
    store: PgEventStore,
    witness: PgEventStore,
    made_by: Callable[[int | None], Append],
    ids_given: bool,
) -> None:
    append = await begin(witness, made_by(1))
    await warmed(store, made_by)
    fault = proxy.arm(Fault(Strike.CUT_BEFORE, gives_a_stored_event))
    returned = await append.run(store, ids_given=ids_given)
    assert fault.struck.is_set()
    assert (await witness.list(append.flow_id))[1:] == returned
    assert proxy.connections == 3  # the migration's, the one that was cut, the retry's


@pytest.mark.parametrize("expected_version", [1, None])
@pytest.mark.parametrize("made_by", MADE_BY)
async def test_a_retry_waits_for_the_first_attempt_that_is_still_in_flight(
    *,
    proxy: Proxy,
    store: PgEventStore,
    witness: PgEventStore,
    pool: "asyncpg.Pool[asyncpg.Record]",
    made_by: Callable[[int | None], Append],
    expected_version: int | None,
) -> None:
    """Hold back the end of the append's statement: the server has the key, and commits later."""
    append = await begin(witness, made_by(expected_version))
    await warmed(store, made_by)
    fault = proxy.arm(Fault(Strike.SEVER, ends_an_append()))
    appending = asyncio.create_task(append.run(store))
    await fault.struck.wait()
    await until_waiting_for_a_lock(pool)
    fault.release()
    returned = await appending
    await fault.settled.wait()  # the proxy learns of it a moment later than the retry
    await see_it_once(witness, append, returned)


@pytest.mark.parametrize("ids_given", [True, False])
@pytest.mark.parametrize("expected_version", [1, None])
async def test_callers_of_one_batch_get_their_own_events_while_its_first_attempt_is_still_in_flight(
    *,
    proxy: Proxy,
    store: PgEventStore,
    witness: PgEventStore,
    pool: "asyncpg.Pool[asyncpg.Record]",
    expected_version: int | None,
    ids_given: bool,
) -> None:
    """Hold back the end of a statement that several flows share: its retry collides in each."""
    appends = [
        await begin(witness, made_by(expected_version)) for made_by in MADE_BY for _ in range(2)
    ]
    # the statements of one flow, and the one that reads the heads of several
    await warmed(store, with_a_batch)
    await asyncio.gather(*(made_by(None).run(store) for made_by in MADE_BY))
    fault = proxy.arm(Fault(Strike.SEVER, ends_an_append()))
    appending = [asyncio.create_task(append.run(store, ids_given=ids_given)) for append in appends]
    await fault.struck.wait()
    await until_waiting_for_a_lock(pool)
    fault.release()
    returned = await asyncio.gather(*appending)
    assert fault.settled.is_set()
    for append, events in zip(appends, returned, strict=True):
        assert (await witness.list(append.flow_id))[1:] == events
        assert [event.kind for event in events] == append.kinds


@pytest.mark.parametrize("made_by", MADE_BY)
async def test_a_first_attempt_that_arrives_after_its_retry_stores_nothing(
    proxy: Proxy,
    store: PgEventStore,
    witness: PgEventStore,
    made_by: Callable[[int | None], Append],
) -> None:
    append = await begin(witness, made_by(1))
    await warmed(store, made_by)
    fault = proxy.arm(Fault(Strike.SEVER, sends_an_append))
    returned = await append.run(store)
    assert fault.struck.is_set()
    fault.release()
    await fault.settled.wait()
    await see_it_once(witness, append, returned)


async def test_a_first_attempt_that_the_server_still_works_on_is_not_repeated(
    proxy: Proxy, store: PgEventStore, witness: PgEventStore, pool: "asyncpg.Pool[asyncpg.Record]"
) -> None:
    """Lock the table, so that the append waits in the server while its connection is cut."""
    append = await begin(witness, with_events_only(1))
    await warmed(store, with_events_only)
    async with pool.acquire() as other:
        transaction = other.transaction()
        await transaction.start()
        await other.execute("LOCK TABLE event_log IN EXCLUSIVE MODE")
        fault = proxy.arm(Fault(Strike.CUT_AFTER, ends_an_append()))
        appending = asyncio.create_task(append.run(store))
        await fault.struck.wait()
        await until_waiting_for_a_lock(pool, sessions=2)
        await transaction.rollback()
    await see_it_once(witness, append, await appending)


async def test_another_writer_that_comes_between_an_attempt_and_its_retry_is_a_true_conflict(
    proxy: Proxy, store: PgEventStore, witness: PgEventStore
) -> None:
    append = await begin(witness, with_events_only(1))
    await warmed(store, with_events_only)
    fault = proxy.arm(Fault(Strike.STALL, sends_an_append))
    appending = asyncio.create_task(append.run(store))
    await fault.struck.wait()
    other = await witness.append_kind(append.flow_id, StepSignal(0, "acquire", "first"))
    fault.release()
    with pytest.raises(ConcurrencyConflict) as caught:
        await appending
    assert caught.value.actual == 2
    assert (await witness.list(append.flow_id))[1:] == [other]


async def test_an_append_without_a_version_goes_behind_the_writer_that_came_between(
    proxy: Proxy, store: PgEventStore, witness: PgEventStore
) -> None:
    append = await begin(witness, with_an_artifact(None))
    await warmed(store, with_an_artifact)
    fault = proxy.arm(Fault(Strike.SEVER, sends_an_append))
    appending = asyncio.create_task(append.run(store))
    await fault.struck.wait()
    other = await witness.append_kind(append.flow_id, StepSignal(0, "acquire", "first"))
    returned = await appending
    fault.release()
    await fault.settled.wait()
    assert {event.version for event in (other, *returned)} == {1, 2}
    assert sorted((other, *returned), key=lambda event: event.version) == (
        await witness.list(append.flow_id, after_version=0)
    )


async def test_an_append_that_loses_every_reply_is_unavailable_and_stored_once(
    proxy: Proxy, store: PgEventStore, witness: PgEventStore
) -> None:
    append = await begin(witness, with_events_only(1))
    await warmed(store, with_events_only)
    before = proxy.connections
    proxy.arm(Fault(Strike.CUT_BEFORE, answers_an_append(), always=True))
    with pytest.raises(StoreUnavailable) as caught:
        await append.run(store)
    assert isinstance(caught.value.__cause__, asyncpg.PostgresConnectionError)
    assert proxy.connections == before + 3
    assert len(await witness.list(append.flow_id)) == 2
    await see_it_once(witness, append, None)


async def until_waiting_for_a_lock(pool: "asyncpg.Pool[asyncpg.Record]", sessions: int = 1) -> None:
    """Poll the server until this many sessions of the database wait for a lock."""
    query = """
        SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND wait_event_type = 'Lock'
    """
    async with asyncio.timeout(60):
        while await pool.fetchval(query) < sessions:
            pass


async def test_an_append_whose_retry_is_refused_is_not_reported_as_refused(
    proxy: Proxy, store: PgEventStore, witness: PgEventStore, pool: "asyncpg.Pool[asyncpg.Record]"
) -> None:
    """New sessions are read-only: the first one has stored the append, the second cannot know."""
    append = await begin(witness, with_an_artifact(1))
    await warmed(store, with_an_artifact)
    database = await pool.fetchval("SELECT quote_ident(current_database())")
    await pool.execute(
        f"ALTER ROLE CURRENT_USER IN DATABASE {database} SET default_transaction_read_only = on"
    )
    proxy.arm(Fault(Strike.CUT_BEFORE, gives_a_stored_event))
    with pytest.raises(StoreUnavailable) as caught:
        await append.run(store)
    assert caught.value.sqlstate == "25006"
    assert [
        event.event_id for event in (await witness.list(append.flow_id))[1:]
    ] == append.event_ids


async def test_an_append_whose_lost_attempt_outlives_its_retrys_patience_is_not_reported_as_refused(
    proxy: Proxy, store: PgEventStore, witness: PgEventStore, pool: "asyncpg.Pool[asyncpg.Record]"
) -> None:
    """The first attempt holds the key, the second times out, and the third is cancelled."""
    append = await begin(witness, with_events_only(1))
    await warmed(store, with_events_only)
    first = proxy.arm(Fault(Strike.SEVER, ends_an_append()))
    appending = asyncio.create_task(append.run(store))
    await first.struck.wait()
    second = proxy.arm(
        Fault(Strike.STALL, lambda message: message.type == "E" and b"55P03" in message.data)
    )
    await second.struck.wait()
    second.release()
    await until_waiting_for_a_lock(pool)
    await pool.execute(
        "SELECT pg_cancel_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    with pytest.raises(StoreUnavailable) as caught:
        await appending
    assert caught.value.sqlstate == "57014"
    first.release()
    await first.settled.wait()
    assert [
        event.event_id for event in (await witness.list(append.flow_id))[1:]
    ] == append.event_ids
