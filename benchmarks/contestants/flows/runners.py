"""This library's worker, and its engine without one, on flows of eight trivial steps."""

import asyncio
from collections.abc import Sequence
from typing import Any

import asyncpg
import msgspec

from benchmarks.contestants.flows.stepping import STEPS, Tally, drive_flows
from benchmarks.contestants.load import Load, Slice
from chem_persistence import (
    Flow,
    FlowClient,
    FlowEngine,
    PgEventStore,
    PgFlowRepository,
    PoolProvider,
    Step,
    StepContext,
    Worker,
    build_pool,
    flow,
)

__all__ = ["BareEngine", "Workers"]

_TOGETHER = 32
"""How many flows one call submits."""


class Value(msgspec.Struct, frozen=True):
    """The number of a flow, and of the step that made this: so each output is a new artifact."""

    flow: int
    step: int


class Trivial(Step[Value, Value]):
    """Returns a new value, and does nothing else."""

    def __init__(self, number: int, tally: Tally) -> None:
        self.id = f"step_{number}"
        self._number = number
        self._tally = tally

    async def run(self, input: Value, context: StepContext) -> Value:  # noqa: A002, ARG002
        """Count the step."""
        self._tally.step_ran(input.flow, self._number)
        return Value(input.flow, self._number)


class _Runner:
    """A pool, a store, and the flow of trivial steps."""

    _pool: "asyncpg.Pool[asyncpg.Record]"

    async def open(self, url: str) -> None:
        self._pool = await build_pool(url)
        self._store = PgEventStore(PoolProvider(self._pool))
        self._repository = PgFlowRepository(PoolProvider(self._pool))
        self._tally = Tally()
        steps = [Trivial(number, self._tally) for number in range(STEPS)]
        made: Flow[Value, Any] = flow("trivial", steps[0])
        for each in steps[1:]:
            made = made.then(each)
        self._flow = made

    async def close(self) -> None:
        await self._store.aclose()
        await self._pool.close()


class Workers(_Runner):
    """One worker that runs submitted flows; the submissions count too."""

    async def run(self, load: Load) -> Slice:
        """Run a slice, with more flows submitted than run at once."""
        client = FlowClient(self._store, self._repository)
        worker = Worker(self._store, [self._flow], at_once=load.flows)

        async def submit(numbers: Sequence[int]) -> None:
            await client.submit_many(self._flow, [Value(number, -1) for number in numbers])

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(worker.run())
            done = await drive_flows(submit, self._tally, load, together=_TOGETHER)
            worker.stop()
        return done


class BareEngine(_Runner):
    """An engine that runs flows which were not given to workers: no lease, claim or submission."""

    async def run(self, load: Load) -> Slice:
        """Run a slice with one task per flow."""
        engine = FlowEngine(self._store, self._repository, self._flow)

        async def run_one(numbers: Sequence[int]) -> None:
            await engine.run_to_end(input=Value(numbers[0], -1))

        return await drive_flows(run_one, self._tally, load, waiting=1)
