"""The floors: a plain prepared INSERT, and COPY, into tables without our constraints."""

import itertools
from datetime import UTC, datetime
from uuid import uuid4

import asyncpg

from benchmarks.contestants.load import Append, Load, Slice, drive
from benchmarks.data.history import ROWS_OF_TEN
from benchmarks.data.statements import read_sql
from chem_persistence import build_pool

__all__ = ["COLUMNS", "LINK", "Copy", "OwnInsert", "PlainInsert", "make_plain_tables"]

COLUMNS = (
    "flow_id",
    "version",
    "event_id",
    "ts",
    "event_type",
    "payload",
    "metadata",
    "chain_hash",
)
LINK = bytes(32)


async def make_plain_tables(url: str) -> None:
    """Create the plain tables, with our columns and our storage, unless they exist."""
    async with await build_pool(url) as pool:
        if await pool.fetchval("SELECT to_regclass('plain_log')") is None:
            await pool.execute(read_sql("plain_tables"))
            await pool.execute(read_sql("own_table"))


class PlainInsert:
    """One row per call with autocommit; each flow keeps its connection."""

    statement = "plain_insert"

    async def open(self, url: str) -> None:
        """Create the tables."""
        await make_plain_tables(url)
        self._url = url
        self._held: list[asyncpg.Connection[asyncpg.Record]] = []

    async def run(self, load: Load) -> Slice:
        """Run a slice with one connection per flow."""
        while len(self._held) < load.flows:
            self._held.append(await asyncpg.connect(self._url))
        return await drive(
            [
                await _inserting(connection, read_sql(self.statement))
                for connection in self._held[: load.flows]
            ],
            load,
        )

    async def close(self) -> None:
        """Close the connections."""
        for connection in self._held:
            await connection.close()


class OwnInsert(PlainInsert):
    """The same into a table with our keys, checks and indexes."""

    statement = "own_insert"


async def _inserting(connection: "asyncpg.Connection[asyncpg.Record]", query: str) -> Append:
    insert = await connection.prepare(query)
    flow_id, versions = uuid4(), itertools.count()

    async def append() -> int:
        version = next(versions)
        event_type, payload = ROWS_OF_TEN[version % 10]
        now = datetime.now(UTC)
        await insert.fetchval(flow_id, version, uuid4(), now, event_type, payload, "{}", LINK)
        return 1

    return append


class Copy:
    """500 rows per call by COPY on one connection."""

    size = 500

    async def open(self, url: str) -> None:
        """Create the tables."""
        await make_plain_tables(url)
        self._connection = await asyncpg.connect(url)

    async def run(self, load: Load) -> Slice:
        """Run a slice."""
        flow_id, versions, now = uuid4(), itertools.count(), datetime.now(UTC)
        event_id = uuid4()

        async def append() -> int:
            rows = [
                (flow_id, next(versions), event_id, now, *ROWS_OF_TEN[index % 10], "{}", LINK)
                for index in range(self.size)
            ]
            await self._connection.copy_records_to_table(
                "plain_log",
                records=rows,
                columns=COLUMNS,
            )
            return self.size

        return await drive([append], load)

    async def close(self) -> None:
        """Disconnect."""
        await self._connection.close()
