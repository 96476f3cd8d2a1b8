"""When the network forwards nothing, every call ends in time, and nothing is stored twice."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from itertools import count
from typing import Any, TypeAlias
from uuid import UUID, uuid4

import asyncpg
import msgspec
import pytest

from chem_persistence import (
    Artifact,
    FeedPosition,
    FlowEngine,
    FlowEvent,
    PgEventStore,
    PgFlowRepository,
    PgReadModels,
    PoolProvider,
    Step,
    StepContext,
    StepSignal,
    StoreUnavailable,
    build_pool,
    verify_log,
)
from chem_persistence.postgres.admin.doctor.examination import examine
from chem_persistence.postgres.connection.liveness import Watch
from tests.support.faults.proxy import Fault, Message, Proxy, Strike, proxied
from tests.support.flows.flows import DEFINITION, initialized, new_flow_id
from tests.support.flows.large_artifacts import SAID, blob

SILENCE = 0.2
LONGEST_CALL = 30.0
"""Far more than two silence timeouts and two connects take, even on a busy machine."""

Call: TypeAlias = Callable[[PoolProvider, UUID, str], Awaitable[object]]


def frozen() -> Fault:
    """Stop all messages, in both directions and of all connections, from now on."""
    return Fault(Strike.STALL, always=True)


@pytest.fixture
async def proxy(database_url: str) -> AsyncIterator[Proxy]:
    async with proxied(database_url) as proxy:
        yield proxy


@pytest.fixture
async def provider(proxy: Proxy) -> AsyncIterator[PoolProvider]:
    url = proxy.url + ("&" if "?" in proxy.url else "?") + "connect_timeout=1"
    async with await build_pool(url, max_size=4, silence_timeout=SILENCE) as pool:
        yield PoolProvider(pool)


async def until_gone(pool: "asyncpg.Pool[asyncpg.Record]") -> None:
    """Wait until the sessions of the frozen connections have ended: nothing more can commit."""
    query = """SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid() AND state <> 'idle'"""
    async with asyncio.timeout(60):
        while await pool.fetchval(query):
            pass


async def drained(iterator: AsyncIterator[object]) -> None:
    async for _ in iterator:
        pass


async def in_transaction(provider: PoolProvider, flow_id: UUID, _: str) -> None:
    async with PgEventStore(provider).transaction() as tx:
        await tx.append_kind(flow_id, StepSignal(0, "acquire", "again"))


class Done(msgspec.Struct):
    pass


class Nothing(Step[None, Done]):
    id = "acquire"

    async def run(self, _nothing: None, _context: StepContext) -> Done:
        return Done()


async def streamed(provider: PoolProvider, flow_id: UUID, _: str) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield b"content"

    async with PgEventStore(provider).transaction() as tx:
        artifact = await tx.put_stream(kind="Grid", chunks=chunks(), media_type="x/y")
        signal = StepSignal(0, "acquire", "more")
        await tx.append_kind(flow_id, signal, artifacts=[artifact])


async def listed_in_transaction(provider: PoolProvider, flow_id: UUID, _: str) -> None:
    async with PgEventStore(provider).transaction() as tx:
        await tx.list(flow_id)


CALLS: dict[str, Call] = {
    "append_kind": lambda provider, flow_id, _: PgEventStore(provider).append_kind(
        flow_id, StepSignal(0, "acquire", "more")
    ),
    "append_kinds": lambda provider, flow_id, _: PgEventStore(provider).append_kinds(
        flow_id, [StepSignal(0, "acquire", "more")], event_ids=[uuid4()], expected_version=1
    ),
    "transaction": in_transaction,
    "put_stream": streamed,
    "tx.list": listed_in_transaction,
    "list": lambda provider, flow_id, _: PgEventStore(provider).list(flow_id),
    "list_many": lambda provider, flow_id, _: PgEventStore(provider).list_many([flow_id]),
    "iterate": lambda provider, flow_id, _: drained(PgEventStore(provider).iterate(flow_id)),
    "read_feed": lambda provider, *_: PgEventStore(provider).read_feed(),
    "read_feed_page": lambda provider, *_: PgEventStore(provider).read_feed_page(0),
    "position": lambda provider, *_: PgEventStore(provider).position(),
    "newest_that_holds": lambda provider, *_: PgEventStore(provider).newest_that_holds(
        [FeedPosition.start()]
    ),
    "follow_with_positions": lambda provider, *_: drained(
        PgEventStore(provider).follow_with_positions()
    ),
    "follow": lambda provider, *_: drained(PgEventStore(provider).follow()),
    "get_artifact": lambda provider, _, name: PgEventStore(provider).get_artifact(name),
    "get_artifacts": lambda provider, _, name: drained(
        PgEventStore(provider).get_artifacts([name])
    ),
    "read_artifact": lambda provider, _, name: drained(PgEventStore(provider).read_artifact(name)),
    "load": lambda provider, flow_id, _: PgFlowRepository(provider).load(flow_id, None, DEFINITION),
    "flows": lambda provider, *_: PgReadModels(provider).flows(),
    "step_executions": lambda provider, flow_id, _: PgReadModels(provider).step_executions(flow_id),
    "ancestors": lambda provider, _, name: PgReadModels(provider).ancestors(name),
    "statistics": lambda provider, *_: PgReadModels(provider).statistics(),
    "refresh": lambda provider, *_: PgReadModels(provider).refresh(),
    "rebuild": lambda provider, *_: PgReadModels(provider).rebuild(),
    "verify_log": lambda provider, *_: verify_log(provider),
    "engine": lambda provider, flow_id, _: (
        FlowEngine.builder(PgEventStore(provider), PgFlowRepository(provider))
        .first_step(Nothing())
        .build()
        .run_to_end(flow_id)
    ),
    "doctor": lambda provider, *_: examine(provider, "public"),
}


async def stored(provider: PoolProvider) -> tuple[FlowEvent, str]:
    artifact = Artifact.from_payload(kind="Molecule", payload={"name": "benzene"})
    event = await PgEventStore(provider).append_kind(
        new_flow_id(), initialized(), artifacts=[artifact]
    )
    return event, artifact.hash


@pytest.mark.parametrize("name", CALLS)
async def test_a_call_ends_within_its_bound(
    proxy: Proxy, provider: PoolProvider, name: str
) -> None:
    event, artifact_hash = await stored(provider)
    fault = proxy.arm(frozen())
    async with asyncio.timeout(LONGEST_CALL):
        with pytest.raises(StoreUnavailable, match="has not answered"):
            await CALLS[name](provider, event.flow_id, artifact_hash)
    fault.release()


async def test_a_pool_ends_within_its_bound(proxy: Proxy) -> None:
    fault = proxy.arm(frozen())
    async with asyncio.timeout(LONGEST_CALL):
        with pytest.raises(StoreUnavailable, match="has not answered"):
            await build_pool(proxy.url + "&connect_timeout=1")
    fault.release()


@pytest.mark.parametrize("nth", range(1, 9))
async def test_an_append_frozen_at_any_message_is_stored_once_after_the_thaw(
    proxy: Proxy, provider: PoolProvider, pool: "asyncpg.Pool[asyncpg.Record]", nth: int
) -> None:
    store = PgEventStore(provider)
    (event, _), event_id = await stored(provider), uuid4()
    fault = proxy.arm(Fault(Strike.STALL, nth=nth, always=True))
    again = StepSignal(0, "acquire", "more")
    async with asyncio.timeout(LONGEST_CALL):
        try:
            await store.append_kind(event.flow_id, again, event_id=event_id)
        except StoreUnavailable:
            assert fault.struck.is_set()
    fault.release()
    await store.append_kind(event.flow_id, again, event_id=event_id)
    await until_gone(pool)
    assert [found.event_id for found in await store.list(event.flow_id)] == [
        event.event_id,
        event_id,
    ]


@pytest.mark.parametrize("answer", ["2", "D", "C"])
async def test_an_append_on_a_connection_that_alone_is_silent_is_stored_once_on_another(
    proxy: Proxy, provider: PoolProvider, pool: "asyncpg.Pool[asyncpg.Record]", answer: str
) -> None:
    store = PgEventStore(provider)
    event, _ = await stored(provider)
    fault = proxy.arm(
        Fault(
            Strike.SILENCE,
            lambda message: not message.from_client and message.type == answer,
        )
    )
    async with asyncio.timeout(LONGEST_CALL):
        appended = await store.append_kind(event.flow_id, StepSignal(0, "acquire", "more"))
    assert fault.struck.is_set()
    fault.release()
    await until_gone(pool)
    assert await store.list(event.flow_id) == [event, appended]


def is_sent(message: Message, kind: str) -> bool:
    return message.from_client and message.type == kind


@pytest.mark.parametrize("nth", [1, 4, 18])
async def test_a_large_artifact_frozen_at_any_piece_is_stored_once_after_the_thaw(
    proxy: Proxy, provider: PoolProvider, pool: "asyncpg.Pool[asyncpg.Record]", nth: int
) -> None:
    store, artifact, event_id = PgEventStore(provider), blob(), uuid4()
    event, _ = await stored(provider)
    fault = proxy.arm(
        Fault(Strike.STALL, lambda message: is_sent(message, "d"), nth=nth, always=True)
    )
    async with asyncio.timeout(LONGEST_CALL):
        with pytest.raises(StoreUnavailable):
            await store.append_kind(event.flow_id, SAID, artifacts=[artifact], event_id=event_id)
    proxy.arm(Fault(Strike.STALL, lambda _: False))
    fault.release()
    async with asyncio.timeout(LONGEST_CALL):
        again = await store.append_kind(
            event.flow_id, SAID, artifacts=[artifact], event_id=event_id
        )
    await until_gone(pool)
    assert await store.list(event.flow_id) == [event, again]
    assert await store.get_artifact(artifact.hash) == artifact


@pytest.mark.parametrize(
    ("sender", "kind", "nth"),
    [
        ("client", "d", 1),
        ("client", "d", 5),
        ("client", "c", 1),
        ("server", "D", 1),
        ("server", "D", 2),
        ("server", "G", 1),
        ("server", "C", 1),
        ("server", "C", 5),
        ("server", "C", 9),
    ],
)
async def test_a_large_artifact_on_a_connection_that_alone_is_silent_is_stored_on_another(
    *,
    proxy: Proxy,
    provider: PoolProvider,
    pool: "asyncpg.Pool[asyncpg.Record]",
    sender: str,
    kind: str,
    nth: int,
) -> None:
    """The silent session waits for its client in a transaction, and is ended: it has locks."""
    store, artifact = PgEventStore(provider), blob()
    event, _ = await stored(provider)
    fault = proxy.arm(
        Fault(
            Strike.SILENCE,
            lambda message: message.from_client == (sender == "client") and message.type == kind,
            nth=nth,
        )
    )
    async with asyncio.timeout(LONGEST_CALL):
        appended = await store.append_kind(event.flow_id, SAID, artifacts=[artifact])
    assert fault.struck.is_set()
    await until_gone(pool)
    fault.release()
    assert await store.list(event.flow_id) == [event, appended]
    assert await store.get_artifact(artifact.hash) == artifact


async def test_a_session_that_could_not_be_ended_at_once_is_ended_when_the_server_answers(
    proxy: Proxy,
    provider: PoolProvider,
    pool: "asyncpg.Pool[asyncpg.Record]",
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The server is too slow to say what the silent session does, and then to end it."""
    asked, ask_now = count(1), Watch._fetch

    async def ask(watch: Watch, query: str, *arguments: object) -> list[Any]:
        if next(asked) <= 3:
            raise TimeoutError
        return await ask_now(watch, query, *arguments)

    store, artifact = PgEventStore(provider), blob()
    event, _ = await stored(provider)
    monkeypatch.setattr(Watch, "_fetch", ask)
    fault = proxy.arm(Fault(Strike.SILENCE, lambda message: is_sent(message, "d")))
    async with asyncio.timeout(LONGEST_CALL):
        appended = await store.append_kind(event.flow_id, SAID, artifacts=[artifact])
    assert fault.struck.is_set()
    await until_gone(pool)
    fault.release()
    assert await store.list(event.flow_id) == [event, appended]


async def test_a_transaction_that_freezes_at_its_commit_may_be_repeated(
    proxy: Proxy, provider: PoolProvider, pool: "asyncpg.Pool[asyncpg.Record]"
) -> None:
    store = PgEventStore(provider)
    flow_id, event_id = new_flow_id(), uuid4()

    async def append() -> None:
        async with store.transaction() as tx:
            await tx.append_kind(flow_id, initialized(), event_id=event_id)

    fault = proxy.arm(Fault(Strike.STALL, lambda message: b"COMMIT" in message.data, always=True))
    async with asyncio.timeout(LONGEST_CALL):
        with pytest.raises(StoreUnavailable):
            await append()
    fault.release()
    await append()
    await until_gone(pool)
    assert [event.event_id for event in await store.list(flow_id)] == [event_id]


async def test_a_statement_that_waits_for_a_lock_is_not_cut_off(
    proxy: Proxy, provider: PoolProvider, pool: "asyncpg.Pool[asyncpg.Record]"
) -> None:
    event, _ = await stored(provider)
    async with pool.acquire() as other, other.transaction():
        await other.execute("LOCK TABLE event_log IN ACCESS EXCLUSIVE MODE")
        opened = proxy.connections
        listing = asyncio.create_task(PgEventStore(provider).list(event.flow_id))
        async with asyncio.timeout(60):
            while proxy.connections < opened + 4:  # the server was asked again and again
                await pool.fetchval("SELECT 1")
    assert await listing == [event]


async def test_a_call_that_is_cancelled_under_silence_leaves_a_pool_that_closes(
    proxy: Proxy,
) -> None:
    pool = await build_pool(proxy.url, silence_timeout=SILENCE)
    event, _ = await stored(PoolProvider(pool))
    listing = asyncio.create_task(PgEventStore(PoolProvider(pool)).list(event.flow_id))
    fault = proxy.arm(frozen())
    await fault.struck.wait()
    listing.cancel()
    async with asyncio.timeout(LONGEST_CALL):
        await asyncio.wait([listing])
        await pool.close()
    fault.release()


@pytest.mark.parametrize(
    ("parameters", "options"),
    [
        ("", {"SO_KEEPALIVE": 1}),
        ("keepalives=0", {"SO_KEEPALIVE": 0}),
        (
            "keepalives_idle=31&keepalives_interval=7&keepalives_count=3",
            {"SO_KEEPALIVE": 1, "TCP_KEEPIDLE": 31, "TCP_KEEPINTVL": 7, "TCP_KEEPCNT": 3},
        ),
        ("keepalives_idle=-1&keepalives_count=0", {"SO_KEEPALIVE": 1}),
        ("tcp_user_timeout=4321", {"SO_KEEPALIVE": 1, "TCP_USER_TIMEOUT": 4321}),
    ],
)
async def test_the_sockets_options_are_those_of_the_url(
    proxy: Proxy, parameters: str, options: dict[str, int]
) -> None:
    async with (
        await build_pool(f"{proxy.url}&{parameters}".rstrip("&")) as pool,
        pool.acquire() as connection,
    ):
        connected = connection.socket  # type: ignore[attr-defined]
        found = {
            name: connected.getsockopt(
                socket.SOL_SOCKET if name.startswith("SO_") else socket.IPPROTO_TCP,
                getattr(socket, name),
            )
            for name in options
        }
    assert found == options
