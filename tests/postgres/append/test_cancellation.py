"""An append cancelled at any await is stored whole or not at all, and leaves a good pool."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Iterator
from contextlib import closing, contextmanager, suppress
from functools import partial
from itertools import count
from pathlib import Path
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
)
from chem_persistence.postgres.append import writers
from chem_persistence.postgres.connection import held_connection
from tests.support.faults.tls_ends import tls_ends
from tests.support.flows.flows import initialized, new_flow_id
from tests.support.made_clusters import embedded_copy
from tests.torture.checker.check import check
from tests.torture.checker.ledger import Ledger
from tests.torture.writers.recording import RecordingStore
from tests.torture.writers.records import RecordFile, read_records

Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"
Appending: TypeAlias = Callable[[PgEventStore, UUID], Coroutine[Any, Any, list[FlowEvent]]]


class Suspensions:
    """Counts the suspensions of the tasks that write for a store; calls `strike` at the nth.

    An early strike comes while a writer waits; a late one when its result has arrived, but before
    the writer resumes. With number 0 it comes as soon as the caller itself waits.
    """

    def __init__(self, nth: int, strike: Callable[[], object], *, late: bool) -> None:
        self._left = nth
        self._strike = strike
        self._late = late
        self.struck = False

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Count the suspensions of the writers that are started in the block."""
        loop = asyncio.get_running_loop()
        if self._left == 0:
            self._arm(None)
        loop.set_task_factory(self._task)
        try:
            yield
        finally:
            loop.set_task_factory(None)

    def _task(
        self, loop: asyncio.AbstractEventLoop, work: Any, **options: Any
    ) -> "asyncio.Task[Any]":
        name = getattr(work, "__qualname__", "")
        writes = name.startswith(("Writers.", "HeldFlows.", "stored_by_its_caller"))
        return asyncio.Task(self._watched(work) if writes else work, loop=loop, **options)

    async def _watched(self, work: Coroutine[Any, Any, Any]) -> Any:
        return await _Watched(work, self._suspended)

    def _suspended(self, future: "asyncio.Future[Any] | None") -> None:
        self._left -= 1
        if self._left == 0:
            self._arm(future)

    def _arm(self, future: "asyncio.Future[Any] | None") -> None:
        self.struck = True
        if self._late and future is not None:
            future.add_done_callback(lambda _: self._strike())
        else:
            asyncio.get_running_loop().call_soon(self._strike)


class _Watched:
    def __init__(self, work: Coroutine[Any, Any, Any], suspended: Callable[[Any], None]) -> None:
        self._work = work
        self._suspended = suspended

    def __await__(self) -> Generator[Any, Any, Any]:
        steps = self._work.__await__()
        thrown: BaseException | None = None
        while True:
            try:
                future = next(steps) if thrown is None else steps.throw(thrown)
            except StopIteration as end:
                return end.value
            self._suspended(future)
            try:
                yield future
            except BaseException as error:  # noqa: BLE001  # passes a cancellation to the coroutine
                thrown = error
            else:
                thrown = None


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


async def cancelled_as_a_task(
    work: Coroutine[Any, Any, Any], nth: int, *, late: bool
) -> tuple[bool, Any]:
    """Return whether the strike came, and the work's result, or None if it was cancelled."""
    suspensions = Suspensions(nth, lambda: task.cancel(), late=late)  # noqa: PLW0108  # set below
    with suspensions.counted():
        task = asyncio.create_task(work)
        try:
            returned = await task
        except asyncio.CancelledError:
            returned = None
    return suspensions.struck, returned


async def cancelled_by_asyncio(
    work: Coroutine[Any, Any, Any], nth: int, *, late: bool
) -> tuple[bool, Any]:
    loop = asyncio.get_running_loop()
    scope = asyncio.timeout(None)

    def expire() -> None:
        with suppress(RuntimeError):  # the append has already ended
            scope.reschedule(loop.time())

    suspensions = Suspensions(nth, expire, late=late)
    try:
        async with scope:
            with suspensions.counted():
                returned = await work
            return suspensions.struck, returned
    except TimeoutError:
        return suspensions.struck, None


async def cancelled_by_anyio(
    work: Coroutine[Any, Any, Any], nth: int, *, late: bool
) -> tuple[bool, Any]:
    suspensions = Suspensions(nth, lambda: setattr(scope, "deadline", float("-inf")), late=late)
    try:
        with anyio.fail_after(None) as scope, suspensions.counted():
            returned = await work
            return suspensions.struck, returned
    except TimeoutError:
        return suspensions.struck, None


@pytest.fixture
async def narrow_pool(database_url: str) -> AsyncIterator[Pool]:
    """Yield a pool of one connection, so that a lost connection shows at once.

    It uses no TLS if possible: the driver leaves a future behind if it is cancelled in the
    handshake.
    """
    parameter = (
        ""
        if "sslmode=" in database_url
        else f"{'&' if '?' in database_url else '?'}sslmode=disable"
    )
    async with await build_pool(database_url + parameter, min_size=0, max_size=1) as pool:
        yield pool


@pytest.fixture
async def complaints(database_url: str) -> list[dict[str, Any]]:
    """Record the errors that the event loop reports, except the driver's after a TLS handshake."""
    complaints: list[dict[str, Any]] = []
    over_tls = tls_ends(database_url) is not None

    def note(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if not over_tls or type(context.get("exception")) is not ConnectionError:
            complaints.append(context)

    asyncio.get_running_loop().set_exception_handler(note)
    return complaints


Cancelled: TypeAlias = Callable[..., Coroutine[Any, Any, tuple[bool, Any]]]


@pytest.mark.parametrize("late", [False, True], ids=["early", "late"])
@pytest.mark.parametrize("connected", [True, False], ids=["connected", "connecting"])
@pytest.mark.parametrize("appending", [append_with_an_artifact, append_events_only])
@pytest.mark.parametrize(
    "cancelled", [cancelled_as_a_task, cancelled_by_asyncio, cancelled_by_anyio]
)
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
    witness = PgEventStore(provider)
    for nth in count():
        flow_id = new_flow_id()
        await witness.append_kind(flow_id, initialized())
        store = PgEventStore(PoolProvider(narrow_pool))
        if connected:
            await store.list(flow_id)
        else:
            await narrow_pool.expire_connections()
        struck, returned = await cancelled(appending(store, flow_id), nth, late=late)
        await store.aclose()
        assert narrow_pool.get_idle_size() == narrow_pool.get_size()
        await see_a_good_pool(narrow_pool)
        await see_all_or_nothing(witness, flow_id, returned)
        if not struck:
            assert returned is not None
            break
    assert nth >= 5
    assert complaints == []


async def stored_by_its_caller(
    appending: Appending, store: PgEventStore, flow_id: UUID
) -> list[FlowEvent]:
    return await appending(store, flow_id)


@pytest.mark.parametrize("late", [False, True], ids=["early", "late"])
@pytest.mark.parametrize("appending", [append_with_an_artifact, append_events_only])
async def test_an_append_that_its_caller_stores_is_whole_or_nothing_at_any_await(
    *,
    narrow_pool: Pool,
    provider: PoolProvider,
    complaints: list[dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
    appending: Appending,
    late: bool,
) -> None:
    """After an append that was alone; what is cancelled is left to the writer that lent to it."""
    monkeypatch.setattr(writers, "LINGER_SECONDS", 3_600.0)
    monkeypatch.setattr(held_connection, "LONGEST_SECONDS", 3_600.0)
    witness = PgEventStore(provider)
    for nth in count(1):
        flow_id, other = new_flow_id(), new_flow_id()
        await witness.append_kind(flow_id, initialized())
        store = PgEventStore(PoolProvider(narrow_pool))
        await store.append_kind(other, initialized())
        work = stored_by_its_caller(appending, store, flow_id)
        struck, returned = await cancelled_as_a_task(work, nth, late=late)
        await store.append_kind(other, StepSignal(0, "acquire", "next"))  # nothing is left behind
        await store.aclose()
        await see_a_good_pool(narrow_pool)
        await see_all_or_nothing(witness, flow_id, returned)
        if not struck:
            assert returned is not None
            break
    await witness.aclose()  # its writer lingers as well
    assert nth >= 3  # a caller that awaits a writer waits once
    assert complaints == []


async def see_a_good_pool(pool: Pool) -> None:
    """Check that the pool's connection works, outside any transaction, and is released again."""
    async with asyncio.timeout(60):
        async with pool.acquire() as connection:
            assert not connection.is_in_transaction()
            assert await connection.fetchval("SELECT pg_current_xact_id_if_assigned() IS NULL")
        assert pool.get_idle_size() == pool.get_size() == 1


async def see_all_or_nothing(
    witness: PgEventStore, flow_id: UUID, returned: list[FlowEvent] | None
) -> None:
    """Check what the log has of the append, after the server has ended the cancelled work."""
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
        assert isinstance(
            (await asyncio.gather(waiting, return_exceptions=True))[0], asyncio.CancelledError
        )
    await see_a_good_pool(narrow_pool)
    assert await store.list(flow_id) == []


@pytest.fixture
def store(narrow_pool: Pool) -> PgEventStore:
    return PgEventStore(PoolProvider(narrow_pool))


@pytest.mark.parametrize("late", [False, True], ids=["early", "late"])
@pytest.mark.parametrize(
    ("strikes", "how_many"),
    [
        (range(1, 201, 23), [1, 3, 8]),
        *(pytest.param(range(1, 201), [number], marks=pytest.mark.slow) for number in (1, 3, 8)),
    ],
    ids=["some", "one-at-all", "some-at-all", "each-at-all"],
)
async def test_appends_cancelled_at_any_await_under_load_leave_all_connections_idle(
    *,
    pool: Pool,
    provider: PoolProvider,
    complaints: list[dict[str, Any]],
    tmp_path: Path,
    strikes: range,
    how_many: list[int],
    late: bool,
) -> None:
    """Strike at awaits of the writers (in the long runs at each of 200): 1, 3 or 8 of 8 appends."""
    path = tmp_path / "cancelled.jsonl"
    with closing(RecordFile(path)) as records:
        for nth in strikes:
            store = PgEventStore(provider)
            recording = RecordingStore(store, records, f"strike {nth}")
            tasks: list[asyncio.Task[None]] = []
            suspensions = Suspensions(
                nth, partial(cancel_some, tasks, how_many[nth % len(how_many)]), late=late
            )
            with suspensions.counted():
                tasks += [
                    asyncio.create_task(append_until(suspensions, recording)) for _ in range(8)
                ]
                await asyncio.wait(tasks)
            await store.aclose()
            assert all(task.cancelled() or task.exception() is None for task in tasks)
            assert pool.get_idle_size() == pool.get_size()
    verdict = await check(provider, Ledger(read_records(path)[0]))
    assert verdict.findings == []
    assert complaints == []


def cancel_some(tasks: list["asyncio.Task[None]"], how_many: int) -> None:
    for task in tasks[:how_many]:
        task.cancel()


async def append_until(suspensions: Suspensions, store: RecordingStore) -> None:
    """Append to a flow of its own until the strike has come, and a few times more."""
    flow_id = new_flow_id()
    await store.append_kind(flow_id, initialized(), expected_version=0)
    left = 3
    for version in count(1):
        artifact = artifact_of(new_flow_id())
        finished = StepFinished(0, "acquire", (artifact.hash,), "f" * 64)
        await store.append_kind(flow_id, finished, artifacts=[artifact], expected_version=version)
        left -= suspensions.struck
        if not left:
            break


def end_session(pid: int) -> None:
    """End a session's process and wait for its end; the event loop cannot notice meanwhile."""
    os.kill(pid, signal.SIGTERM)
    with suppress(ProcessLookupError):
        while True:
            os.kill(pid, 0)


async def test_a_connection_that_breaks_as_it_is_given_back_does_not_hide_a_cancellation() -> None:
    async with embedded_copy() as url, await build_pool(url, max_size=1) as pool:
        provider = PoolProvider(pool)

        async def work() -> None:
            async with provider.acquire() as connection:
                (row,) = await connection.fetch("SELECT pg_backend_pid() AS pid")
                end_session(row["pid"])
                raise asyncio.CancelledError

        with pytest.raises(asyncio.CancelledError):
            await work()
        assert await pool.fetchval("SELECT 1") == 1
