"""Appends that are cancelled at any of their awaits: stored whole or not at all, and the pool as good as before."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator
from contextlib import suppress
from itertools import count
from typing import Any, TypeAlias
from uuid import UUID

import anyio
import asyncpg
import pytest
from uuid_utils.compat import uuid7

from chem_persistence import (
    Artifact,
    ArtifactNotFound,
    FlowEvent,
    FlowEventKind,
    PgEventStore,
    PoolProvider,
    StepFinished,
    StepSignal,
    StepStarted,
    build_pool,
    embedded_postgres,
)
from tests.support.flows import initialized, new_flow_id

Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"
Appending: TypeAlias = Callable[[PgEventStore, UUID], Coroutine[Any, Any, list[FlowEvent]]]


class Suspensions:
    """Awaits a coroutine and calls `strike` when it suspends for the nth time.

    An early strike comes while the coroutine waits; a late one when what it waits for is there, but before it goes on.
    """

    def __init__(
        self, work: Coroutine[Any, Any, Any], nth: int, strike: Callable[[], object], *, late: bool
    ) -> None:
        self._work = work
        self._nth = nth
        self._strike = strike
        self._late = late
        self.struck = False

    def __await__(self) -> Generator[Any, Any, Any]:
        steps = self._work.__await__()
        suspended = 0
        thrown: BaseException | None = None
        while True:
            try:
                future = next(steps) if thrown is None else steps.throw(thrown)
            except StopIteration as end:
                return end.value
            suspended += 1
            if suspended == self._nth:
                self.struck = True
                self._arm(future)
            try:
                yield future
            except BaseException as error:  # noqa: BLE001  # a cancellation goes into the coroutine
                thrown = error
            else:
                thrown = None

    def _arm(self, future: "asyncio.Future[Any] | None") -> None:
        if self._late and future is not None:
            future.add_done_callback(lambda _: self._strike())
        else:
            asyncio.get_running_loop().call_soon(self._strike)


async def append_with_an_artifact(store: PgEventStore, flow_id: UUID) -> list[FlowEvent]:
    artifact = artifact_of(flow_id)
    kinds: list[FlowEventKind] = [
        StepStarted(0, "acquire"),
        StepFinished(0, "acquire", (artifact.hash,), "f" * 64),
    ]
    return await store.append_kinds(flow_id, kinds, artifacts=[artifact], expected_version=1)


async def append_events_only(store: PgEventStore, flow_id: UUID) -> list[FlowEvent]:
    kinds = [StepSignal(0, "acquire", "said"), StepSignal(0, "acquire", "said again")]
    return await store.append_kinds(flow_id, kinds, event_ids=[uuid7(), uuid7()])


def artifact_of(flow_id: UUID) -> Artifact:
    return Artifact.from_payload(kind="Molecule", payload={"name": str(flow_id)})


async def cancelled_as_a_task(work: Coroutine[Any, Any, Any], nth: int, *, late: bool) -> tuple[bool, Any]:
    """Give whether the strike came, and what the work returned, None if it did not."""

    def cancel() -> None:
        task.cancel()

    suspensions = Suspensions(work, nth, cancel, late=late)
    task = asyncio.create_task(awaited(suspensions))
    try:
        returned = await task
    except asyncio.CancelledError:
        returned = None
    return suspensions.struck, returned


async def cancelled_by_asyncio(work: Coroutine[Any, Any, Any], nth: int, *, late: bool) -> tuple[bool, Any]:
    loop = asyncio.get_running_loop()
    scope = asyncio.timeout(None)
    suspensions = Suspensions(work, nth, lambda: scope.reschedule(loop.time()), late=late)
    try:
        async with scope:
            returned = await suspensions
            return suspensions.struck, returned
    except TimeoutError:
        return suspensions.struck, None


async def cancelled_by_anyio(work: Coroutine[Any, Any, Any], nth: int, *, late: bool) -> tuple[bool, Any]:
    suspensions = Suspensions(work, nth, lambda: setattr(scope, "deadline", float("-inf")), late=late)
    try:
        with anyio.fail_after(None) as scope:
            returned = await suspensions
            return suspensions.struck, returned
    except TimeoutError:
        return suspensions.struck, None


async def awaited(work: Awaitable[Any]) -> Any:
    return await work


@pytest.fixture
async def narrow_pool(database_url: str) -> AsyncIterator[Pool]:
    """Give a pool of one connection: one that is not given back is missed at once.

    It does without TLS, because the driver leaves a future behind when it is cancelled while it negotiates TLS.
    """
    parameter = "" if "sslmode=" in database_url else f"{'&' if '?' in database_url else '?'}sslmode=disable"
    async with await build_pool(database_url + parameter, min_size=0, max_size=1) as pool:
        yield pool


@pytest.fixture
def complaints() -> list[dict[str, Any]]:
    """Give what the event loop complains of during the test."""
    return []


Cancelled: TypeAlias = Callable[..., Coroutine[Any, Any, tuple[bool, Any]]]


@pytest.mark.parametrize("late", [False, True], ids=["early", "late"])
@pytest.mark.parametrize("connected", [True, False], ids=["connected", "connecting"])
@pytest.mark.parametrize("appending", [append_with_an_artifact, append_events_only])
@pytest.mark.parametrize("cancelled", [cancelled_as_a_task, cancelled_by_asyncio, cancelled_by_anyio])
async def test_an_append_cancelled_at_any_await_is_whole_or_nothing(
    *,
    narrow_pool: Pool,
    provider: PoolProvider,
    complaints: list[dict[str, Any]],
    cancelled: Cancelled,
    appending: Appending,
    connected: bool,
    late: bool,
) -> None:
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    store, witness = PgEventStore(PoolProvider(narrow_pool)), PgEventStore(provider)
    for nth in count(1):
        flow_id = new_flow_id()
        await witness.append_kind(flow_id, initialized())
        if connected:
            await store.list(flow_id)
        else:
            await narrow_pool.expire_connections()
        struck, returned = await cancelled(appending(store, flow_id), nth, late=late)
        await see_a_good_pool(narrow_pool)
        await see_all_or_nothing(witness, flow_id, returned)
        if not struck:
            assert returned is not None
            break
    assert nth > 5
    assert complaints == []


async def see_a_good_pool(pool: Pool) -> None:
    """See that the pool lends its connection again, outside any transaction, and has it back afterwards."""
    async with asyncio.timeout(60):
        async with pool.acquire() as connection:
            assert not connection.is_in_transaction()
            assert await connection.fetchval("SELECT pg_current_xact_id_if_assigned() IS NULL")
        assert pool.get_idle_size() == pool.get_size() == 1


async def see_all_or_nothing(witness: PgEventStore, flow_id: UUID, returned: list[FlowEvent] | None) -> None:
    """See what the log has of the append, once the server has ended what was cancelled."""
    await witness.append_kind(flow_id, StepSignal(0, "acquire", "after"))
    _, *stored, _ = await witness.list(flow_id)
    assert len(stored) in {0, 2}
    if returned is not None:
        assert stored == returned
    try:
        await witness.get_artifact(artifact_of(flow_id).hash)
    except ArtifactNotFound:
        assert not any(isinstance(event.kind, StepFinished) for event in stored)
    else:
        assert len(stored) == 2


async def test_an_append_cancelled_while_it_waits_for_a_connection_leaves_the_pool_alone(
    narrow_pool: Pool, store: PgEventStore
) -> None:
    flow_id = new_flow_id()
    async with narrow_pool.acquire():
        waiting = asyncio.create_task(store.append_kind(flow_id, initialized()))
        while not narrow_pool._queue._getters:  # type: ignore[attr-defined]
            await asyncio.sleep(0)
        waiting.cancel()
        assert isinstance((await asyncio.gather(waiting, return_exceptions=True))[0], asyncio.CancelledError)
    await see_a_good_pool(narrow_pool)
    assert await store.list(flow_id) == []


@pytest.fixture
def store(narrow_pool: Pool) -> PgEventStore:
    return PgEventStore(PoolProvider(narrow_pool))


async def test_many_appends_cancelled_together_leave_no_connection_behind(
    pool: Pool, provider: PoolProvider
) -> None:
    store = PgEventStore(provider)
    for nth in range(1, 12):
        flow_ids = [new_flow_id() for _ in range(30)]
        outcomes = await asyncio.gather(
            *(
                cancelled_as_a_task(store.append_kinds(flow_id, [initialized()]), nth, late=False)
                for flow_id in flow_ids
            )
        )
        async with asyncio.timeout(60):
            connections = [await pool.acquire() for _ in range(pool.get_max_size())]
            for connection in connections:
                await pool.release(connection)
        assert pool.get_idle_size() == pool.get_size() == pool.get_max_size()
        for flow_id, (_, returned) in zip(flow_ids, outcomes, strict=True):
            stored = await store.list(flow_id)
            assert len(stored) <= 1
            if returned is not None:
                assert stored == returned


def end_session(pid: int) -> None:
    """End a session's process and wait for its end, while the event loop stands still and cannot notice."""
    os.kill(pid, signal.SIGTERM)
    with suppress(ProcessLookupError):
        while True:
            os.kill(pid, 0)


async def test_a_connection_that_breaks_as_it_is_given_back_does_not_hide_a_cancellation() -> None:
    async with embedded_postgres() as url, await build_pool(url, max_size=1) as pool:
        provider = PoolProvider(pool)

        async def work() -> None:
            async with provider.acquire() as connection:
                (row,) = await connection.fetch("SELECT pg_backend_pid() AS pid")
                end_session(row["pid"])
                raise asyncio.CancelledError

        with pytest.raises(asyncio.CancelledError):
            await work()
        assert await pool.fetchval("SELECT 1") == 1
