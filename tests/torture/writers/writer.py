"""A writer process: it appends until its standard input ends, and records calls and answers.

        python -m tests.torture.writers.writer
            URL SEED SLOT GENERATION BEGAN RECORDS [EARLIER RECORDS ...]

Lines on its standard input are commands: `step SECONDS` moves its clock, `exhaust SECONDS` holds
all of its connections, `cancel SECONDS` cancels appends at random moments; 0 ends either. At its
start it repeats the appends that earlier processes of its slot left unanswered, with the same event
ids, and continues their flows.
"""

import asyncio
import sys
from contextlib import AsyncExitStack, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from uuid import UUID

import asyncpg

from chem_persistence import (
    ChemPersistenceError,
    PgEventStore,
    PoolProvider,
    StoreError,
    build_pool,
)
from tests.torture.writers.appending import TASKS, Appending
from tests.torture.writers.load import Load
from tests.torture.writers.recording import RecordingStore
from tests.torture.writers.records import (
    Acknowledged,
    Conflict,
    EngineFlow,
    Record,
    RecordFile,
    Sent,
    read_records,
)

__all__ = ["ACQUIRE_SECONDS", "SteppingClock"]

CONNECTIONS = 3
ACQUIRE_SECONDS = 0.25


class SteppingClock:
    """The system's clock, shifted as commanded."""

    def __init__(self) -> None:
        self.wrong_by = timedelta(0)

    def now(self) -> datetime:
        return datetime.now(UTC) + self.wrong_by


class Writer:
    """Runs the tasks that append, and executes the commands."""

    def __init__(self, arguments: list[str]) -> None:
        self._url = arguments[0]
        self._seed, self._slot, self._generation = (int(argument) for argument in arguments[1:4])
        self._began = float(arguments[4])
        self._records = RecordFile(Path(arguments[5]))
        self._earlier = [Path(argument) for argument in arguments[6:]]
        self._clock = SteppingClock()
        self._holding: set[asyncio.Task[None]] = set()
        self._dice = Random(f"{self._seed}/{self._slot}/{self._generation}")

    async def run(self) -> None:
        commands = await _standard_input()
        pool = await self._opened_pool(commands)
        if pool is None:
            return
        provider = PoolProvider(pool, acquire_timeout=ACQUIRE_SECONDS)
        name = f"{self._slot}.{self._generation}"
        store = RecordingStore(PgEventStore(provider, clock=self._clock), self._records, name)
        appending = [
            Appending(
                store,
                provider,
                self._records,
                Load(self._seed, self._slot, self._began, dice),
                dice,
            )
            for dice in (Random(self._dice.random()) for _ in range(TASKS))
        ]
        await self._take_over(appending[0])
        working = [asyncio.create_task(each.run()) for each in appending]
        while line := (await commands.readline()).decode():
            command, seconds = line.split()
            self._obey(command, float(seconds), pool, appending)
        for each in appending:
            each.stop()
        await asyncio.gather(*working, *self._holding, return_exceptions=True)
        pool.terminate()

    async def _opened_pool(
        self, commands: asyncio.StreamReader
    ) -> "asyncpg.Pool[asyncpg.Record] | None":
        while not commands.at_eof():
            with suppress(StoreError):
                return await build_pool(self._url, max_size=CONNECTIONS)
            await asyncio.sleep(0.05)
        return None

    async def _take_over(self, appending: Appending) -> None:
        """Settle what the slot's earlier processes left open; leave what fails to the next one."""
        left, flows = _left_open(self._earlier)
        for sent in left:
            with suppress(ChemPersistenceError):
                await appending.repeat(sent)
        for flow_id in flows:
            await appending.run_engine(flow_id)

    def _obey(
        self,
        command: str,
        seconds: float,
        pool: "asyncpg.Pool[asyncpg.Record]",
        appending: list[Appending],
    ) -> None:
        match command:
            case "step":
                self._clock.wrong_by += timedelta(seconds=seconds)
            case "exhaust":
                for holding in self._holding:
                    holding.cancel()
                if seconds > 0:
                    holding = asyncio.create_task(_hold_all(pool, seconds))
                    self._holding.add(holding)
                    holding.add_done_callback(self._holding.discard)
            case "cancel":
                for each in appending:
                    each.be_impatient(seconds)
            case _:
                raise ValueError(command)


async def _hold_all(pool: "asyncpg.Pool[asyncpg.Record]", seconds: float) -> None:
    async with AsyncExitStack() as stack:
        with suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            for _ in range(CONNECTIONS):
                await stack.enter_async_context(pool.acquire(timeout=1.0))
            await asyncio.sleep(seconds)


def _left_open(earlier: list[Path]) -> tuple[list[Sent], list[UUID]]:
    """Return the unanswered appends that may be repeated, and the flows that no engine ended."""
    open_appends: dict[str, Sent] = {}
    flows: dict[UUID, None] = {}
    records: list[Record] = [record for path in earlier[-2:] for record in read_records(path)[0]]
    for record in records:
        match record:
            case Sent(token=token, event_ids=list()):
                open_appends[token] = record
            case Acknowledged(token=token) | Conflict(token=token):
                open_appends.pop(token, None)
            case EngineFlow(flow_id=flow_id, fingerprint=None):
                flows[flow_id] = None
            case EngineFlow(flow_id=flow_id):
                flows.pop(flow_id, None)
            case _:
                pass
    return list(open_appends.values()), list(flows)


async def _standard_input() -> asyncio.StreamReader:
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    return reader


if __name__ == "__main__":
    asyncio.run(Writer(sys.argv[1:]).run())
