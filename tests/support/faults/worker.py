"""A process that runs one flow of three steps and can kill itself at a chosen point.

        python -m tests.support.faults.worker URL FLOW_ID RUNS
            [--by-step] [--die PLACE NUMBER] [--hold STEP] [--lease SECONDS]

It appends a line to the file RUNS for each run of a step, and prints the flow's fingerprint at its
end, or the name of the library's error.
"""

import argparse
import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec

from chem_persistence import (
    Artifact,
    ChemPersistenceError,
    ConnectionProvider,
    EventStore,
    FlowEngine,
    FlowEvent,
    FlowRepository,
    PgEventStore,
    PgFlowRepository,
    PoolProvider,
    Step,
    StepContext,
    StepKind,
    build_pool,
)
from chem_persistence.engine.leases import own_flow
from chem_persistence.postgres.connection.ports import Connection
from chem_persistence.store.append_request import AppendCall

__all__ = ["STEP_IDS", "Place", "three_steps"]

STEP_IDS = ("seed", "double", "sum")


class Place(StrEnum):
    """A point at which the process can kill itself; a number counts its passes from 0 on."""

    BEFORE_APPEND = "before_append"
    AFTER_APPEND = "after_append"
    IN_STEP = "in_step"
    BEFORE_STATEMENT = "before_statement"
    AFTER_STATEMENT = "after_statement"


class Death:
    """Counts how often each point is passed, and kills the process at the chosen pass."""

    def __init__(self, place: Place | None, number: int) -> None:
        self._place = place
        self._number = number

    def pass_by(self, place: Place) -> None:
        if place is not self._place:
            return
        if self._number == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        self._number -= 1


class Numbers(msgspec.Struct):
    values: list[float]


class Total(msgspec.Struct):
    value: float


class Work:
    """The side effects of a step: it records the run, and passes its point of death."""

    def __init__(self, runs: Path, death: Death | None = None, hold: str | None = None) -> None:
        self._runs = runs
        self._death = death
        self._hold = hold

    async def note(self, context: StepContext) -> None:
        with self._runs.open("a", encoding="utf-8") as runs:
            runs.write(f"{context.step_id} {context.attempt}\n")
        if self._death is not None:
            self._death.pass_by(Place.IN_STEP)
        if self._hold == context.step_id:
            print("holding", flush=True)  # noqa: T201  # the parent process reads it
            await asyncio.to_thread(sys.stdin.readline)


class SeedStep(Step[None, Numbers]):
    id = STEP_IDS[0]
    kind = StepKind.SOURCE

    def __init__(self, work: Work) -> None:
        self._work = work

    async def run(self, _nothing: None, context: StepContext) -> Numbers:
        await self._work.note(context)
        return Numbers([1.5, 2.5, 6.02214076e23])


class DoubleStep(Step[Numbers, Numbers]):
    id = STEP_IDS[1]

    def __init__(self, work: Work) -> None:
        self._work = work

    async def run(self, numbers: Numbers, context: StepContext) -> Numbers:
        await self._work.note(context)
        context.signal("doubled", {"count": len(numbers.values)})
        return Numbers([2 * value for value in numbers.values])


class SumStep(Step[Numbers, Total]):
    id = STEP_IDS[2]
    kind = StepKind.SINK

    def __init__(self, work: Work) -> None:
        self._work = work

    async def run(self, numbers: Numbers, context: StepContext) -> Total:
        await self._work.note(context)
        context.add_artifact(
            Artifact.from_content(
                kind="Report", content=b"%d numbers" % len(numbers.values), media_type="text/plain"
            )
        )
        return Total(sum(numbers.values))


def three_steps(store: EventStore, repository: FlowRepository, work: Work) -> FlowEngine[None]:
    """Build the engine that all workers share."""
    return (
        FlowEngine.builder(store, repository)
        .first_step(SeedStep(work))
        .add_step(DoubleStep(work))
        .add_step(SumStep(work))
        .build()
    )


class MortalStore(PgEventStore):
    """A store that passes a point of death before and after each append."""

    def __init__(self, provider: ConnectionProvider, death: Death) -> None:
        super().__init__(provider)
        self._death = death

    async def _append(self, call: AppendCall) -> list[FlowEvent]:
        self._death.pass_by(Place.BEFORE_APPEND)
        events = await super()._append(call)
        self._death.pass_by(Place.AFTER_APPEND)
        return events


class MortalConnection:
    """A connection that passes a point of death before and after each statement."""

    def __init__(self, connection: Connection, death: Death) -> None:
        self._connection = connection
        self._death = death

    async def execute(self, query: str, *args: Any) -> str:
        self._death.pass_by(Place.BEFORE_STATEMENT)
        status = await self._connection.execute(query, *args)
        self._death.pass_by(Place.AFTER_STATEMENT)
        return status

    async def fetch(self, query: str, *args: Any) -> list[Any]:
        self._death.pass_by(Place.BEFORE_STATEMENT)
        rows = await self._connection.fetch(query, *args)
        self._death.pass_by(Place.AFTER_STATEMENT)
        return rows

    def transaction(self, *, isolation: Any = None) -> AbstractAsyncContextManager[Any]:
        return self._connection.transaction(isolation=isolation)

    def is_in_transaction(self) -> bool:
        return self._connection.is_in_transaction()

    def is_closed(self) -> bool:
        return self._connection.is_closed()


class MortalProvider:
    def __init__(self, provider: ConnectionProvider, death: Death) -> None:
        self._provider = provider
        self._death = death

    def acquire(self) -> AbstractAsyncContextManager[Connection]:
        return self._acquire()

    @asynccontextmanager
    async def _acquire(self) -> AsyncIterator[Connection]:
        async with self._provider.acquire() as connection:
            yield MortalConnection(connection, self._death)


async def work(arguments: argparse.Namespace) -> str:
    death = Death(*arguments.die)
    async with await build_pool(arguments.url, max_size=2) as pool:
        provider = MortalProvider(PoolProvider(pool), death)
        engine = three_steps(
            MortalStore(provider, death),
            PgFlowRepository(provider),
            Work(arguments.runs, death, arguments.hold),
        )
        try:
            if arguments.by_step:
                while not (await engine.run_step(arguments.flow_id)).completed:
                    pass
            else:
                await engine.run_to_end(arguments.flow_id)
            return await engine.flow_fingerprint(arguments.flow_id)
        except ChemPersistenceError as error:
            return type(error).__name__


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("flow_id", type=UUID)
    parser.add_argument("runs", type=Path)
    parser.add_argument("--by-step", action="store_true")
    parser.add_argument("--hold")
    parser.add_argument("--lease", type=float)
    parser.add_argument("--die", nargs=2, default=(None, 0))
    arguments = parser.parse_args()
    place, number = arguments.die
    if arguments.lease is not None:
        own_flow.LEASE = timedelta(seconds=arguments.lease)
    arguments.die = (None if place is None else Place(place), int(number))
    print(asyncio.run(work(arguments)), flush=True)  # noqa: T201  # the parent process reads it


if __name__ == "__main__":
    main()
