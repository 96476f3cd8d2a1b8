"""Reading: a flow of 100,000 events, 10,000 flows of ten, and their floors (undecoded rows)."""

import asyncio
import random
import time
from uuid import UUID

import asyncpg

from benchmarks.contestants.load import Append, Load, Slice, drive
from benchmarks.data.grown import flow_id_of
from benchmarks.data.history import (
    FLOW_OF_TEN,
    LONG_FLOW,
    LONG_FLOW_EVENTS,
    OUTPUTS_OF_TEN,
    long_definition,
    long_history,
)
from benchmarks.data.statements import read_sql
from chem_persistence import PgEventStore, PgFlowRepository, PoolProvider, build_pool

__all__ = ["FlowsOfTen", "Opening", "Replay", "RowFloor", "RowFloorOfTen", "write_flows"]

SMALL_FLOWS = 1_000
"""How many flows of ten are read; the database may hold more."""

_PAGE = 1_000
_BATCH = 1_000
_WRITERS = 128


async def write_flows(url: str, flows: int) -> dict[str, float]:
    """Write a flow of 100,000 in batches, flows of ten 128 at once; return events per second."""
    async with await build_pool(url) as pool:
        store = PgEventStore(PoolProvider(pool))
        history = list(long_history())
        begun = time.perf_counter()
        for first in range(0, LONG_FLOW_EVENTS, _BATCH):
            await store.append_kinds(
                LONG_FLOW, history[first : first + _BATCH], expected_version=first
            )
        between = time.perf_counter()
        numbers = iter(range(flows))

        async def write() -> None:
            for flow in numbers:  # shared: each task takes the next flow
                for version, kind in enumerate(FLOW_OF_TEN):
                    artifacts = OUTPUTS_OF_TEN if flow == version == 0 else ()
                    await store.append_kind(
                        flow_id_of(flow), kind, artifacts=artifacts, expected_version=version
                    )

        async with asyncio.TaskGroup() as tasks:
            for _ in range(_WRITERS):
                tasks.create_task(write())
        ended = time.perf_counter()
        await store.aclose()
    return {
        "one flow of 100,000, 1,000 a call": LONG_FLOW_EVENTS / (between - begun),
        f"{flows:,} flows of 10, 128 at once": flows * len(FLOW_OF_TEN) / (ended - between),
    }


class Replay:
    """One `load` of the long flow per call, from its first event on."""

    snapshot_after: int | None = None

    async def open(self, url: str) -> None:
        """Connect."""
        self._pool = await build_pool(url)
        self._repository = PgFlowRepository(
            PoolProvider(self._pool), snapshot_after=self.snapshot_after
        )
        self._definition = long_definition()

    async def run(self, load: Load) -> Slice:
        """Read the flow as often as the load says."""

        async def replay() -> int:
            return (await self._repository.load(LONG_FLOW, None, self._definition)).version

        return await drive([replay], load)

    async def close(self) -> None:
        """Disconnect."""
        await self._pool.close()


class Opening(Replay):
    """One `load` of the long flow per call, from the snapshot that the first load stores."""

    snapshot_after = 1_000

    async def open(self, url: str) -> None:
        """Connect, and load it once."""
        await super().open(url)
        await self._repository.load(LONG_FLOW, None, self._definition)


class RowFloor:
    """All rows of the long flow per call, in pages, decoded by the driver only."""

    async def open(self, url: str) -> None:
        """Open a single connection."""
        self._connection = await asyncpg.connect(url)

    async def run(self, load: Load) -> Slice:
        """Read the rows as often as the load says."""
        fetch = (await self._connection.prepare(read_sql("read_page"))).fetch

        async def read() -> int:
            count = 0
            while page := await fetch(LONG_FLOW, count - 1, _PAGE):
                count += len(page)
            return count

        return await drive([read], load)

    async def close(self) -> None:
        """Disconnect."""
        await self._connection.close()


def _any_flow() -> UUID:
    return flow_id_of(random.randrange(SMALL_FLOWS))  # noqa: S311  # flows, not secrets


class FlowsOfTen:
    """One `list` of a flow of ten per call."""

    async def open(self, url: str) -> None:
        """Connect."""
        self._pool = await build_pool(url)
        self._store = PgEventStore(PoolProvider(self._pool))

    async def run(self, load: Load) -> Slice:
        """Read flows at random."""

        async def read() -> int:
            return len(await self._store.list(_any_flow()))

        return await drive([read] * load.flows, load)

    async def close(self) -> None:
        """Disconnect."""
        await self._pool.close()


class RowFloorOfTen:
    """The rows of a flow of ten per call; each reader keeps its connection."""

    async def open(self, url: str) -> None:
        """Keep the URL; each reader connects by itself."""
        self._url = url
        self._held: list[asyncpg.Connection[asyncpg.Record]] = []

    async def run(self, load: Load) -> Slice:
        """Read flows at random."""
        while len(self._held) < load.flows:
            self._held.append(await asyncpg.connect(self._url))
        return await drive(
            [await _reading(connection) for connection in self._held[: load.flows]], load
        )

    async def close(self) -> None:
        """Disconnect."""
        for connection in self._held:
            await connection.close()


async def _reading(connection: "asyncpg.Connection[asyncpg.Record]") -> Append:
    statement = await connection.prepare(read_sql("read_page"))

    async def read() -> int:
        return len(await statement.fetch(_any_flow(), -1, _PAGE))

    return read
