"""Further figures of workers: an idle one, submission to first step, and a map over many items."""

import asyncio
import time
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import msgspec

from benchmarks.contestants.load import Load, Slice, Window
from benchmarks.data.statements import read_sql
from chem_persistence import (
    Flow,
    FlowClient,
    Many,
    PgEventStore,
    PgFlowRepository,
    PoolProvider,
    Step,
    StepContext,
    Wait,
    Worker,
    build_pool,
    flow,
)

__all__ = ["FirstStep", "Idle", "Mapped", "Number", "Steps"]

_AT_ONCE = 1_000
"""The children of a map that may be under way at the same time."""

SECONDS_TO_SETTLE = 0.02
"""The pause before each submission, in which the worker becomes idle."""


class Number(msgspec.Struct, frozen=True):
    """A number, which differs in each flow."""

    number: int
    count: int = 0


class Steps:
    """How often a step has run, and an event that is set each time."""

    def __init__(self) -> None:
        self.ran = 0
        self.changed = asyncio.Event()

    def count(self) -> None:
        """Count a run."""
        self.ran += 1
        self.changed.set()

    async def reach(self, count: int) -> None:
        """Wait for so many runs."""
        while self.ran < count:
            self.changed.clear()
            await self.changed.wait()


class Trivial(Step[Number, Number]):
    """Returns its input, and counts."""

    id = "trivial"

    def __init__(self, steps: Steps | None = None) -> None:
        self._steps = steps

    async def run(self, input: Number, context: StepContext) -> Number:  # noqa: A002, ARG002
        """Count, if somebody waits for that."""
        if self._steps is not None:
            self._steps.count()
        return input


class Sleep(Step[Number, Number]):
    """Waits for a month."""

    id = "sleep"

    def __init__(self, steps: Steps) -> None:
        self._steps = steps

    async def run(self, input: Number, context: StepContext) -> Number | Wait:  # noqa: A002, ARG002
        """Count, and wait."""
        self._steps.count()
        return Wait(until=timedelta(days=30))


class Items(Step[Number, Many[Number]]):
    """Returns as many items as its input says."""

    id = "items"

    async def run(self, input: Number, context: StepContext) -> Many[Number]:  # noqa: A002, ARG002
        """Make them, with numbers that no other flow has."""
        return Many(tuple(Number(input.number, item) for item in range(input.count)))


class End(Step[Many[Number], Number]):
    """Counts that a map is over."""

    id = "end"

    def __init__(self, steps: Steps) -> None:
        self._steps = steps

    async def run(self, input: Many[Number], context: StepContext) -> Number:  # noqa: A002, ARG002
        """Count."""
        self._steps.count()
        return Number(0, len(input.items))


class _Served:
    """A pool, a store and a client, and a flow that a worker runs."""

    _pool: "asyncpg.Pool[asyncpg.Record]"
    _flow: Flow[Number, Any]

    async def open(self, url: str) -> None:
        self._url = url
        self._pool = await build_pool(url)
        self._store = PgEventStore(PoolProvider(self._pool))
        self._client = FlowClient(self._store, PgFlowRepository(PoolProvider(self._pool)))
        self._steps = Steps()
        self._submitted = 0
        self._flow_ids: dict[int, UUID] = {}
        self._flow = self._made()

    async def close(self) -> None:
        await self._store.aclose()
        await self._pool.close()

    def _made(self) -> Flow[Number, Any]:
        raise NotImplementedError

    def _worker(self) -> Worker:
        return Worker(self._store, [self._flow])

    def _next(self, count: int = 0) -> Number:
        self._submitted += 1
        return Number(self._submitted, count)


class Idle(_Served):
    """A worker without a due flow, while as many flows wait as the load says.

    An event is a second. The server's CPU is that of the sessions in this database alone: the
    server's own processes serve all databases.
    """

    def _made(self) -> Flow[Number, Any]:
        return flow("sleep", Sleep(self._steps))

    async def run(self, load: Load) -> Slice:
        """Run a slice; the first one submits the flows, and runs them until they wait."""
        connection = await asyncpg.connect(self._url)
        await self._fill(load.flows - self._submitted)
        worker = self._worker()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(worker.run())
            await asyncio.sleep(load.warmup)
            sessions = await _sessions(connection)
            begun = time.perf_counter(), time.process_time(), _cpu_seconds(sessions)
            await asyncio.sleep(load.seconds)
            ended = time.perf_counter(), time.process_time(), _cpu_seconds(sessions)
            worker.stop()
        await connection.close()
        seconds, client, server = (b - a for a, b in zip(begun, ended, strict=True))
        return Slice(
            events=seconds,
            seconds=seconds,
            client_cpu=client,
            server_cpu=server,
            p50=0.0,
            p99=None,
            connections=len(sessions),
        )

    async def _fill(self, count: int) -> None:
        """Submit flows, and run them until they wait, on connections that are closed then."""
        if count <= 0:
            return
        async with await build_pool(self._url) as pool:
            store = PgEventStore(PoolProvider(pool))
            client = FlowClient(store, PgFlowRepository(PoolProvider(pool)))
            worker = Worker(store, [self._flow])
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(worker.run())
                inputs = [self._next() for _ in range(count)]
                flow_ids = await client.submit_many(self._flow, inputs)
                self._flow_ids |= {
                    each.number: flow_id for each, flow_id in zip(inputs, flow_ids, strict=True)
                }
                await self._steps.reach(self._submitted)
                worker.stop()
            await store.aclose()


async def _sessions(connection: "asyncpg.Connection[asyncpg.Record]") -> list[int]:
    """Return the process ids of the other sessions of the connection's database."""
    return [row["pid"] for row in await connection.fetch(read_sql("list_sessions"))]


def _cpu_seconds(pids: list[int]) -> float:
    """Return what processes have used, in nanoseconds' resolution (proc(5), schedstat)."""
    used = (Path(f"/proc/{pid}/schedstat").read_text(encoding="ascii").split()[0] for pid in pids)
    return sum(map(int, used)) / 1e9


class FirstStep(_Served):
    """The time from a submission to the first line of the flow's first step, in an idle worker."""

    def _made(self) -> Flow[Number, Any]:
        return flow("trivial", Trivial(self._steps))

    async def run(self, load: Load) -> Slice:
        """Submit one flow after another."""
        worker, window = self._worker(), Window(load)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(worker.run())
            window.open()
            deadline = window.now() + load.seconds
            while window.now() < deadline:
                await asyncio.sleep(SECONDS_TO_SETTLE)
                begun = window.now()
                await self._client.submit(self._flow, self._next())
                await self._steps.reach(self._submitted)
                window.call_ended(begun, 1)
            window.close()
            worker.stop()
        return window.result()


class Mapped(_Served):
    """A map over as many items as the load says; an event is a child, all that it costs counts."""

    def _made(self) -> Flow[Number, Any]:
        return (
            flow("map", Items())
            .map(flow("child", Trivial()), at_once=_AT_ONCE)
            .then(End(self._steps))
        )

    async def run(self, load: Load) -> Slice:
        """Run one flow to its last step."""
        worker, window = self._worker(), Window(load)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(worker.run())
            window.open()
            begun, ended = window.now(), self._steps.ran + 1
            await self._client.submit(self._flow, self._next(load.flows))
            await self._steps.reach(ended)
            window.call_ended(begun, load.flows)
            window.close()
            worker.stop()
        return window.result()
