"""Processes that are killed: workers at any point of a flow, and the server under load."""

import asyncio
import os
import signal
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, suppress
from itertools import count
from pathlib import Path
from uuid import UUID

import asyncpg
import pytest

from chem_persistence import (
    Artifact,
    FlowAlreadyCompleted,
    FlowClient,
    FlowEvent,
    FlowInitialized,
    FlowInstance,
    InMemoryEventStore,
    InMemoryFlowRepository,
    PgEventStore,
    PgFlowRepository,
    PoolProvider,
    StepFinished,
    StepStatus,
    StoreUnavailable,
    Worker,
    build_pool,
    embedded_postgres,
)
from tests.support.faults.worker import STEP_IDS, Place, Work, three_steps
from tests.support.flows.flows import initialized, new_flow_id
from tests.support.servers.processes import KILLED, worker

KILLS = [  # by_step, place, number
    *((False, Place.BEFORE_APPEND, number) for number in range(4)),
    *((False, Place.AFTER_APPEND, number) for number in range(4)),
    *((False, Place.IN_STEP, number) for number in range(3)),
    # S and F are separate appends: S0, F0, S1, F1, S2, F2 with C
    *((True, Place.AFTER_APPEND, number) for number in range(6)),
]
KILLS_TO_TRY = [
    pytest.param(*kill, marks=[] if kill[-1] == 1 else pytest.mark.slow) for kill in KILLS
]
"""Each kind of kill once in the usual run, and at every place in the long one."""


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Return the file in which workers record the steps that they run."""
    return tmp_path / "runs"


@pytest.fixture
def parent() -> Iterator[Path]:
    """Yield a directory outside pytest's own, which the server's user can reach."""
    with tempfile.TemporaryDirectory(prefix="kills-") as path:
        yield Path(path)


@pytest.fixture
async def undisturbed(tmp_path: Path) -> str:
    """Return the fingerprint of the undisturbed flow."""
    store = InMemoryEventStore()
    engine = three_steps(store, InMemoryFlowRepository(store), Work(tmp_path / "undisturbed"))
    await engine.run_to_end()
    return await engine.flow_fingerprint()


async def loaded(
    pool: "asyncpg.Pool[asyncpg.Record]", flow_id: UUID
) -> tuple[list[FlowEvent], FlowInstance]:
    """Return a flow's events and its state."""
    provider = PoolProvider(pool)
    engine = three_steps(PgEventStore(provider), PgFlowRepository(provider), Work(Path(os.devnull)))
    return await PgEventStore(provider).list(flow_id), await engine.load(flow_id, missing_ok=True)


def runs_of(runs: Path) -> Counter[str]:
    """Count the runs of each step."""
    return (
        Counter(line.split()[0] for line in runs.read_text().splitlines())
        if runs.exists()
        else Counter()
    )


async def see_it_go_on(
    pool: "asyncpg.Pool[asyncpg.Record]", url: str, flow_id: UUID, runs: Path
) -> str:
    """Check that another process ends the flow without repeating a step; return the fingerprint."""
    before, state = await loaded(pool, flow_id)
    runs_before = runs_of(runs)
    async with worker(url, flow_id, runs) as second:
        status, fingerprint = await second.end()
    assert status == 0
    events, instance = await loaded(pool, flow_id)
    assert events[: len(before)] == before
    assert instance.completed
    if state.completed:
        assert fingerprint == FlowAlreadyCompleted.__name__
    for slot_before, slot in zip(state.steps, instance.steps, strict=True):
        interrupted = slot_before.status is StepStatus.RUNNING
        finished = slot_before.status is StepStatus.FINISHED
        assert slot.attempts == (2 if interrupted else 1)
        assert runs_of(runs)[slot.step_id] - runs_before[slot.step_id] == (0 if finished else 1)
    assert Counter(event.variant for event in events)["C"] == 1
    last = events[-1].kind
    return getattr(last, "flow_fingerprint", "no C at the end")


@pytest.mark.parametrize(("by_step", "place", "number"), KILLS_TO_TRY)
async def test_a_flow_whose_worker_was_killed_goes_on_in_another_process(
    *,
    pool: "asyncpg.Pool[asyncpg.Record]",
    database_url: str,
    runs: Path,
    undisturbed: str,
    by_step: bool,
    place: Place,
    number: int,
) -> None:
    flow_id = new_flow_id()
    async with worker(database_url, flow_id, runs, by_step=by_step, die=(place, number)) as first:
        assert (await first.end())[0] == KILLED
    assert await see_it_go_on(pool, database_url, flow_id, runs) == undisturbed


async def test_a_worker_goes_on_with_the_flow_of_a_program_that_was_killed(
    pool: "asyncpg.Pool[asyncpg.Record]", database_url: str, runs: Path, undisturbed: str
) -> None:
    flow_id, provider = new_flow_id(), PoolProvider(pool)
    async with worker(database_url, flow_id, runs, die=(Place.IN_STEP, 1)) as program:
        assert (await program.end())[0] == KILLED
    await pool.execute("UPDATE flow_runs SET due_at = now() WHERE flow_id = $1", flow_id)
    store, repository = PgEventStore(provider), PgFlowRepository(provider)
    serving = Worker(provider, [three_steps(store, repository, Work(runs)).flow])
    running = asyncio.create_task(serving.run())
    await FlowClient(store, repository, poll_interval=0.02).wait(flow_id)
    serving.stop()
    await running
    events, _ = await loaded(pool, flow_id)
    assert "".join(event.variant for event in events) == "ISFSSGFSFC"
    assert getattr(events[-1].kind, "flow_fingerprint", "") == undisturbed


async def test_a_step_that_is_interrupted_twice_is_run_three_times(
    pool: "asyncpg.Pool[asyncpg.Record]", database_url: str, runs: Path, undisturbed: str
) -> None:
    flow_id = new_flow_id()
    for number in (
        1,
        0,
    ):  # in the second step, the first one that the second worker runs
        async with worker(database_url, flow_id, runs, die=(Place.IN_STEP, number)) as doomed:
            assert (await doomed.end())[0] == KILLED
    async with worker(database_url, flow_id, runs) as last:
        assert await last.end() == (0, undisturbed)
    assert runs.read_text().splitlines() == ["seed 1", "double 1", "double 2", "double 3", "sum 1"]
    _, instance = await loaded(pool, flow_id)
    assert [slot.attempts for slot in instance.steps] == [1, 3, 1]


async def sweep_statements(
    pool: "asyncpg.Pool[asyncpg.Record]", url: str, directory: Path, place: Place, undisturbed: str
) -> int:
    """Kill a worker at its first statement, then one at its second, until one survives.

    Each flow is then continued here.
    """
    for number in count():
        flow_id, runs = new_flow_id(), directory / f"{place}-{number}"
        async with worker(url, flow_id, runs, die=(place, number)) as doomed:
            status, _ = await doomed.end()
        if status == 0:
            return number
        assert status == KILLED
        provider = PoolProvider(pool)
        engine = three_steps(PgEventStore(provider), PgFlowRepository(provider), Work(runs))
        events, state = await loaded(pool, flow_id)
        assert [event.version for event in events] == list(range(len(events)))
        for slot in state.steps:
            for output in slot.outputs:
                await PgEventStore(provider).get_artifact(output)
        if not state.completed:
            await engine.run_to_end(flow_id)
        assert await engine.flow_fingerprint(flow_id) == undisturbed
    raise AssertionError


@pytest.mark.parametrize("place", [Place.BEFORE_STATEMENT, Place.AFTER_STATEMENT])
async def test_a_worker_killed_at_any_statement_leaves_no_half_of_an_append(
    pool: "asyncpg.Pool[asyncpg.Record]",
    database_url: str,
    tmp_path: Path,
    undisturbed: str,
    place: Place,
) -> None:
    assert await sweep_statements(pool, database_url, tmp_path, place, undisturbed) >= 6


async def test_a_second_process_on_one_flow_is_refused_at_once(
    pool: "asyncpg.Pool[asyncpg.Record]", database_url: str, runs: Path, undisturbed: str
) -> None:
    flow_id = new_flow_id()
    async with worker(database_url, flow_id, runs, hold="double") as first:
        assert await first.line() == "holding"
        async with worker(database_url, flow_id, runs) as second:
            assert await second.end() == (0, "FlowIsRunning")
        await first.go_on()
        assert await first.end() == (0, undisturbed)
    events, _ = await loaded(pool, flow_id)
    assert "".join(event.variant for event in events) == "ISFSGFSFC"


async def test_the_slower_of_two_processes_on_a_flow_without_a_lease_gets_a_conflict(
    pool: "asyncpg.Pool[asyncpg.Record]", database_url: str, runs: Path, undisturbed: str
) -> None:
    flow_id, provider = new_flow_id(), PoolProvider(pool)
    engine = three_steps(PgEventStore(provider), PgFlowRepository(provider), Work(runs))
    begins = FlowInitialized(engine.definition.definition_hash, 3)  # by hand: nobody's
    await PgEventStore(provider).append_kind(flow_id, begins)
    async with worker(database_url, flow_id, runs, hold="double") as slower:
        assert await slower.line() == "holding"
        async with worker(database_url, flow_id, runs) as faster:
            assert await faster.end() == (0, undisturbed)
        await slower.go_on()
        assert await slower.end() == (0, "ConcurrencyConflict")
    events, instance = await loaded(pool, flow_id)
    assert "".join(event.variant for event in events) == "ISFSSGFSFC"
    assert instance.completed


async def test_processes_that_race_on_one_flow_leave_one_legal_history(
    pool: "asyncpg.Pool[asyncpg.Record]", database_url: str, runs: Path, undisturbed: str
) -> None:
    flow_id = new_flow_id()

    async def race() -> str:
        async with worker(database_url, flow_id, runs, by_step=True) as racer:
            return (await racer.end())[1]

    outcomes = await asyncio.gather(*(race() for _ in range(4)))
    assert undisturbed in outcomes
    assert set(outcomes) <= {undisturbed, "FlowIsRunning", "FlowAlreadyCompleted"}
    events, instance = await loaded(pool, flow_id)
    assert [event.version for event in events] == list(range(len(events)))
    assert instance.completed
    assert Counter(event.variant for event in events)["F"] == len(STEP_IDS)
    assert Counter(event.variant for event in events)["C"] == 1
    assert events[-1].variant == "C"


def postmaster(directory: Path) -> int:
    return int((directory / "cluster" / "postmaster.pid").read_text().split()[0])


class Appender:
    """Appends to flows of its own until the store is gone, and records what was acknowledged."""

    def __init__(self, store: PgEventStore) -> None:
        self._store = store
        self.acknowledged: list[FlowEvent] = []
        self.under_way: tuple[UUID, Artifact] | None = None

    async def run(self, enough: asyncio.Semaphore) -> None:
        while True:
            flow_id = new_flow_id()
            for version in range(5):
                artifact = Artifact.from_payload(
                    kind="Value", payload={"flow": str(flow_id), "at": version}
                )
                self.under_way = flow_id, artifact
                kind = (
                    StepFinished(0, "acquire", (artifact.hash,), "f" * 64)
                    if version
                    else initialized()
                )
                try:
                    event = await self._store.append_kind(
                        flow_id, kind, artifacts=[artifact], expected_version=version
                    )
                except StoreUnavailable:
                    return
                self.acknowledged.append(event)
                enough.release()


@pytest.fixture
async def directory(parent: Path) -> AsyncIterator[Path]:
    directory = parent / "server"
    yield directory
    async with embedded_postgres(directory):  # stops the server that a failed test left
        pass


async def reopened(url: str) -> "asyncpg.Pool[asyncpg.Record]":
    """Connect to a server that may still be recovering."""
    async with asyncio.timeout(60):
        while True:
            try:
                return await build_pool(url)
            except StoreUnavailable:
                pass


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["postmaster", "session"])
async def test_every_acknowledged_event_outlives_a_kill_of_the_server(
    directory: Path, victim: str
) -> None:
    async with embedded_postgres(directory) as url:
        pool = await build_pool(url, max_size=8)
        appenders = [Appender(PgEventStore(PoolProvider(pool))) for _ in range(8)]
        enough = asyncio.Semaphore(0)
        running = [asyncio.create_task(appender.run(enough)) for appender in appenders]
        for _ in range(100):
            await enough.acquire()
        if victim == "postmaster":
            os.kill(postmaster(directory), signal.SIGKILL)
            await asyncio.gather(*running)
        else:
            os.kill(await pool.fetchval("SELECT pg_backend_pid()"), signal.SIGKILL)
            for task in running:  # some may have survived the recovery
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
        pool.terminate()
        async with embedded_postgres(directory) as again, await reopened(again) as pool:
            store = PgEventStore(PoolProvider(pool))
            for appender in appenders:
                await see_all_of_it(store, appender)


async def see_all_of_it(store: PgEventStore, appender: Appender) -> None:
    """Check that the log has all acknowledged events, and at most one append more."""
    flow_ids = {event.flow_id for event in appender.acknowledged}
    assert appender.under_way is not None
    last_flow_id, last_artifact = appender.under_way
    for flow_id in flow_ids | {last_flow_id}:
        acknowledged = [event for event in appender.acknowledged if event.flow_id == flow_id]
        stored = await store.list(flow_id)
        assert stored[: len(acknowledged)] == acknowledged
        assert len(stored) - len(acknowledged) <= (1 if flow_id == last_flow_id else 0)
        for event in stored:
            if isinstance(event.kind, StepFinished):
                artifact = await store.get_artifact(event.kind.outputs[0])
                assert artifact.payload == {"flow": str(flow_id), "at": event.version}
        if len(stored) > len(acknowledged):
            assert await store.get_artifact(last_artifact.hash) == last_artifact


async def sessions_of(url: str) -> list[int]:
    """Return the process ids of all other sessions."""
    connection = await asyncpg.connect(url)
    try:
        rows = await connection.fetch(
            "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' "
            "AND pid <> pg_backend_pid()"
        )
    finally:
        await connection.close()
    return [row["pid"] for row in rows]


def until_gone(pids: list[int]) -> None:
    """Wait until processes have ended: without their postmaster they end at their next wait."""
    for pid in pids:
        with suppress(ProcessLookupError):
            while True:
                os.kill(pid, 0)


@pytest.mark.slow
async def test_flows_go_on_after_a_kill_of_the_server(
    directory: Path, runs: Path, undisturbed: str
) -> None:
    flow_ids = [new_flow_id() for _ in range(6)]
    async with embedded_postgres(directory) as url:
        async with AsyncExitStack() as stack:
            workers = [
                await stack.enter_async_context(
                    worker(url, flow_id, runs, hold=STEP_IDS[number % 3], lease=2)
                )
                for number, flow_id in enumerate(flow_ids)
            ]
            for each in workers:
                assert await each.line() == "holding"
            sessions = await sessions_of(url)
            os.kill(postmaster(directory), signal.SIGKILL)
            until_gone(sessions)
            for each in workers:
                await each.go_on()
            ends = {await each.end() for each in workers}
            assert ends <= {(0, "StoreUnavailable"), (0, "StaleLease")}
        runs.write_text("")
        async with embedded_postgres(directory) as again, await reopened(again) as pool:
            for number, flow_id in enumerate(flow_ids):
                _, state = await loaded(pool, flow_id)
                assert state.cursor == number % 3
                assert await see_it_go_on(pool, again, flow_id, runs) == undisturbed
