"""Behind PgBouncer in transaction mode, where no session state outlives a transaction."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from itertools import count
from typing import Literal
from uuid import UUID, uuid4

import asyncpg
import pytest

from chem_persistence import (
    Artifact,
    ConcurrencyConflict,
    FlowAnswer,
    FlowAppend,
    FlowEvent,
    MigrationError,
    PgEventStore,
    PgFlowRepository,
    PoolProvider,
    StepFinished,
    StepSignal,
    StepStarted,
    StoreUnavailable,
    build_dev_pool_from_env,
    build_pool,
)
from chem_persistence.postgres.audit.verification import verify_log
from tests.support.commands import command
from tests.support.faults.proxy import Fault, Proxy, Strike, proxied
from tests.support.flows.flows import DEFINITION, initialized, new_flow_id, whole_history
from tests.support.flows.large_artifacts import SAID, blob
from tests.support.flows.messages import gives_a_stored_event
from tests.support.servers.pgbouncer import SERVER_CONNECTIONS, pgbouncer_before

pytestmark = pytest.mark.pgbouncer

FLOWS = 60
MOST_TERMINATED = 30
TERMINATE_OTHERS = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
"""
STORES = 4


@pytest.fixture
async def pooled_url(admin_url: str) -> AsyncIterator[str]:
    """Yield the URL of a migrated, empty database through PgBouncer."""
    async with pgbouncer_before(admin_url) as url:
        yield url


async def test_appends_of_many_tasks_and_stores_are_stored_once(pooled_url: str) -> None:
    flow_ids = [new_flow_id() for _ in range(FLOWS)]

    async def run(store: PgEventStore, number: int) -> None:
        artifact = Artifact.from_payload(
            kind="Molecule", payload=[number // 2]
        )  # two flows share it
        for version, kind in enumerate(whole_history(artifact)):
            artifacts = [artifact] if isinstance(kind, StepFinished) else []
            await store.append_kind(
                flow_ids[number], kind, artifacts=artifacts, expected_version=version
            )

    async with await build_pool(pooled_url, max_size=3 * STORES, transaction_pooling=True) as pool:
        provider = PoolProvider(pool)
        stores = [PgEventStore(provider) for _ in range(STORES)]
        await asyncio.gather(*(run(stores[number % STORES], number) for number in range(FLOWS)))
        repository = PgFlowRepository(provider, snapshot_after=1)
        instances = [await repository.load(flow_id, None, DEFINITION) for flow_id in flow_ids]
        verification = await verify_log(provider)
        assert all(instance.completed for instance in instances)
        assert verification.findings == []
        assert (
            verification.progress.events
            == sum(instance.version for instance in instances)
            == FLOWS * 8
        )


@pytest.mark.own_database
async def test_it_shares_fewer_connections_than_its_clients_have(
    pooled_url: str, admin_url: str
) -> None:
    async with await build_pool(
        pooled_url, min_size=12, max_size=12, transaction_pooling=True
    ) as pool:
        store = PgEventStore(PoolProvider(pool))
        await asyncio.gather(*(store.append_kind(new_flow_id(), initialized()) for _ in range(200)))
        await asyncio.gather(*(store.list(new_flow_id()) for _ in range(200)))
        administrator = await asyncpg.connect(admin_url)
        try:
            sessions = await administrator.fetchval(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
                "AND pid <> pg_backend_pid()"
            )
        finally:
            await administrator.close()
        assert pool.get_size() == 12
        assert 1 <= sessions <= SERVER_CONNECTIONS


async def test_a_conflict_is_a_conflict(pooled_url: str) -> None:
    flow_id = new_flow_id()
    async with await build_pool(pooled_url, transaction_pooling=True) as pool:
        first, second = PgEventStore(PoolProvider(pool)), PgEventStore(PoolProvider(pool))
        await first.append_kind(flow_id, initialized(), expected_version=0)
        with pytest.raises(ConcurrencyConflict):
            await second.append_kind(flow_id, StepStarted(0, "acquire"), expected_version=0)


async def test_a_repeated_append_is_recognised(pooled_url: str) -> None:
    flow_id, event_id = new_flow_id(), uuid4()
    async with await build_pool(pooled_url, transaction_pooling=True) as pool:
        store = PgEventStore(PoolProvider(pool))
        appended = await store.append_kind(flow_id, initialized(), event_id=event_id)
        again = await store.append_kind(flow_id, initialized(), event_id=event_id)
        assert again == appended
        assert await store.list(flow_id) == [appended]


async def test_appends_whose_sessions_are_terminated_are_stored_once(
    pooled_url: str, admin_url: str
) -> None:
    flow_ids = [new_flow_id() for _ in range(20)]

    async def run(store: PgEventStore, flow_id: UUID) -> None:
        for version in range(20):
            event_id = uuid4()
            while True:
                with suppress(StoreUnavailable):
                    said = StepSignal(0, "acquire", f"{version}")
                    await store.append_kind(
                        flow_id, said, expected_version=version, event_id=event_id
                    )
                    break

    async def terminate(
        administrator: "asyncpg.Connection[asyncpg.Record]", appends: "asyncio.Future[list[None]]"
    ) -> int:
        terminated = 0
        while not appends.done() and terminated < MOST_TERMINATED:
            terminated += len(await administrator.fetch(TERMINATE_OTHERS))
            await asyncio.wait([appends], timeout=0.05)
        return terminated

    administrator = await asyncpg.connect(admin_url)
    try:
        async with await build_pool(pooled_url, max_size=8, transaction_pooling=True) as pool:
            stores = [PgEventStore(PoolProvider(pool)) for _ in range(2)]
            runs = asyncio.gather(
                *(run(stores[place % 2], flow_id) for place, flow_id in enumerate(flow_ids))
            )
            appends = asyncio.ensure_future(runs)
            assert await terminate(administrator, appends) > 0
            await appends
            events = await stores[0].list_many(flow_ids)
        assert [len(events[flow_id]) for flow_id in flow_ids] == [20] * 20
    finally:
        await administrator.close()


@asynccontextmanager
async def lossy(database_url: str, side: str) -> AsyncIterator[tuple[str, Proxy]]:
    """Yield the URL of a PgBouncer, and a proxy on its way to the clients or to the server."""
    if side == "client":
        async with pgbouncer_before(database_url) as url, proxied(url) as proxy:
            yield proxy.url, proxy
        return
    async with proxied(database_url) as proxy, pgbouncer_before(proxy.url) as url:
        yield url, proxy


@asynccontextmanager
async def stores(
    database_url: str, side: str
) -> AsyncIterator[tuple[PgEventStore, PgEventStore, Proxy]]:
    """Yield a store whose replies can be lost, one that reads what is stored, and the proxy."""
    async with (
        await build_pool(database_url) as direct,
        lossy(database_url, side) as (url, proxy),
        await build_pool(url, max_size=2, transaction_pooling=True) as pool,
    ):
        store = PgEventStore(PoolProvider(pool))
        yield store, PgEventStore(PoolProvider(direct)), proxy
        await store.aclose()


WAYS = ["append_one", "append_rows", "append_many"]
SIDES = ["client", "server"]


def appends_of(way: str) -> list[FlowAppend]:
    """Return appends to new flows: of one event, of several with an artifact, or of many flows."""
    appends = []
    for _ in range(12 if way == "append_many" else 1):
        artifact = Artifact.from_payload(kind="Molecule", payload=str(uuid4()))
        kinds = [initialized()] if way == "append_one" else whole_history(artifact)
        artifacts = [] if way == "append_one" else [artifact]
        ids = [uuid4() for _ in kinds]
        appends.append(FlowAppend(new_flow_id(), kinds, artifacts, 0, ids))
    return appends


async def stored_by(store: PgEventStore, appends: list[FlowAppend]) -> list[FlowAnswer]:
    """Return what is stored: of one flow by `append_kinds`, of several by `append_many`."""
    if len(appends) > 1:
        return await store.append_many(appends)
    (append,) = appends
    return [
        await store.append_kinds(
            append.flow_id,
            append.kinds,
            artifacts=append.artifacts,
            expected_version=append.expected_version,
            event_ids=append.event_ids,
        )
    ]


async def found_of(witness: PgEventStore, appends: list[FlowAppend]) -> list[list[FlowEvent]]:
    """Return the events of the flows, each of which is stored whole or not at all."""
    found = [await witness.list(append.flow_id) for append in appends]
    for append, events in zip(appends, found, strict=True):
        assert len(events) in {0, len(append.kinds)}
    return found


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("way", WAYS)
async def test_an_append_whose_reply_is_lost_is_acknowledged_and_stored_once(
    admin_url: str, way: str, side: str
) -> None:
    async with stores(admin_url, side) as (store, witness, proxy):
        await stored_by(store, appends_of(way))  # the driver asks for the types before
        appends = appends_of(way)
        fault = proxy.arm(Fault(Strike.CUT_BEFORE, gives_a_stored_event))
        answers = await stored_by(store, appends)
        assert fault.struck.is_set()
        assert await found_of(witness, appends) == answers


@pytest.mark.slow
@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("strike", [Strike.CUT_BEFORE, Strike.CUT_AFTER])
@pytest.mark.parametrize("way", WAYS)
async def test_an_append_of_which_any_message_is_lost_is_stored_once(
    admin_url: str, way: str, strike: Strike, side: str
) -> None:
    async with stores(admin_url, side) as (store, witness, proxy):
        await stored_by(store, appends_of(way))
        for number in count(1):
            appends = appends_of(way)
            fault = proxy.arm(Fault(strike, nth=number))
            answers: list[FlowAnswer] | None = None
            with suppress(StoreUnavailable):
                answers = await stored_by(store, appends)
            if not fault.struck.is_set():
                break
            found = await found_of(witness, appends)
            assert answers in (found, None)
            assert await stored_by(store, appends) == await found_of(witness, appends)
        assert number > 5, "it has been cut at this many messages"


async def test_a_transaction_streams_and_appends_on_one_connection(pooled_url: str) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for number in range(3):
            yield bytes([number]) * 2**20

    flow_id = new_flow_id()
    async with await build_pool(pooled_url, transaction_pooling=True) as pool:
        store = PgEventStore(PoolProvider(pool))
        async with store.transaction() as tx:
            artifact = await tx.put_stream(kind="Trajectory", chunks=chunks(), media_type="x")
            others = (store.append_kind(new_flow_id(), initialized()) for _ in range(20))
            await asyncio.gather(*others)
            await tx.append_kind(flow_id, StepSignal(0, "acquire", "s"), artifacts=[artifact])
        read = b"".join([chunk async for chunk in store.read_artifact(artifact.hash)])
        assert read == b"".join([chunk async for chunk in chunks()])


async def test_large_artifacts_are_sent_and_read_in_pieces(pooled_url: str) -> None:
    artifacts = [blob(seed=number) for number in range(6)]
    async with await build_pool(pooled_url, transaction_pooling=True, max_size=4) as pool:
        store = PgEventStore(PoolProvider(pool))
        appends = [store.append_kind(new_flow_id(), SAID, artifacts=[found]) for found in artifacts]
        others = [store.append_kind(new_flow_id(), initialized()) for _ in range(20)]
        await asyncio.gather(*appends, *others)
        async with store.transaction() as tx:
            await tx.append_kind(new_flow_id(), SAID, artifacts=[blob(seed=9)])
        for artifact in [*artifacts, blob(seed=9)]:
            assert await store.get_artifact(artifact.hash) == artifact


async def test_an_empty_database_is_migrated(
    empty_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    flow_id = new_flow_id()
    async with pgbouncer_before(empty_database_url) as url:
        monkeypatch.setenv("DATABASE_URL", url)
        pools = [build_dev_pool_from_env(max_size=2, transaction_pooling=True) for _ in range(4)]
        opened = await asyncio.gather(*pools)
        event = await PgEventStore(PoolProvider(opened[0])).append_kind(flow_id, initialized())
        assert await PgEventStore(PoolProvider(opened[3])).list(flow_id) == [event]
        await asyncio.gather(*(pool.close() for pool in opened))


async def test_another_schema_needs_the_roles_own_search_path(pooled_url: str) -> None:
    with pytest.raises(MigrationError, match="ALTER ROLE"):
        await build_pool(pooled_url, schema="lab", transaction_pooling=True)


async def test_another_schema_is_found_by_the_search_path(pooled_url: str, admin_url: str) -> None:
    async with await build_pool(admin_url, schema="lab") as pool:
        name = await pool.fetchval("SELECT current_database()")
        await pool.execute(f'ALTER DATABASE "{name}" SET search_path = lab')
    flow_id = new_flow_id()
    async with await build_pool(pooled_url, schema="lab", transaction_pooling=True) as pool:
        store = PgEventStore(PoolProvider(pool))
        await store.append_kind(flow_id, initialized())
        await store.aclose()
        async with pool.acquire() as connection:
            assert connection.row_types.are_known  # type: ignore[attr-defined]
        assert await pool.fetchval("SELECT count(*) FROM lab.event_log") == 1


async def test_session_mode_needs_the_same_option(admin_url: str) -> None:
    flow_id = new_flow_id()
    async with pgbouncer_before(admin_url, "session") as url:
        with pytest.raises(StoreUnavailable, match="unsupported startup parameter: search_path"):
            await build_pool(url)
        async with await build_pool(url, transaction_pooling=True) as pool:
            store = PgEventStore(PoolProvider(pool))
            event = await store.append_kind(flow_id, initialized())
            assert await store.list(flow_id) == [event]


async def test_without_the_option_it_says_what_the_pooler_refuses(pooled_url: str) -> None:
    with pytest.raises(
        StoreUnavailable, match="unsupported startup parameter: search_path"
    ) as caught:
        await build_pool(pooled_url)
    assert "a pooler (PgBouncer) refused" in str(caught.value)
    assert "transaction_pooling=True" in str(caught.value)


@pytest.mark.parametrize("mode", ["transaction", "session"])
@pytest.mark.parametrize("way", ["build_pool", "environment", "schema"])
async def test_19_every_way_to_a_pooler_names_it_and_what_to_type(
    admin_url: str,
    monkeypatch: pytest.MonkeyPatch,
    mode: Literal["transaction", "session"],
    way: str,
) -> None:
    async with pgbouncer_before(admin_url, mode) as url:
        monkeypatch.setenv("DATABASE_URL", url)
        opening: dict[str, Callable[[], Awaitable[object]]] = {
            "build_pool": lambda: build_pool(url),
            "environment": build_dev_pool_from_env,
            "schema": lambda: build_pool(url, schema="lab"),
        }
        with pytest.raises(StoreUnavailable) as caught:
            await opening[way]()
    assert "a pooler (PgBouncer) refused" in str(caught.value)
    assert "transaction_pooling=True" in str(caught.value)


@pytest.mark.parametrize("arguments", [["flows"], ["status"], ["tail", "-n", "1"]], ids=" ".join)
async def test_19_a_command_through_a_pooler_names_it(
    pooled_url: str, arguments: list[str]
) -> None:
    done = await command(*arguments, "--database-url", pooled_url)
    assert (done.returncode, done.stdout) == (3, "")
    assert "a pooler (PgBouncer) refused" in " ".join(done.stderr.split())
