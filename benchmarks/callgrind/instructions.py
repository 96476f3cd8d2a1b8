"""Count the server's instructions for an event: ours, and of a table with our keys and indexes.

The server runs under callgrind (https://valgrind.org/docs/manual/cl-manual.html), which counts the
instructions that each session executes outside the kernel. Neither the load nor the kind of machine
changes them, so what two versions need can be compared on different days.
"""

import asyncio
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Awaitable, Callable, Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID, uuid4

import asyncpg
import msgspec

from benchmarks.contestants.reference import COLUMNS, LINK
from benchmarks.data.history import FLOW_OF_TEN, ROWS_OF_TEN
from benchmarks.data.statements import read_sql
from benchmarks.server import programs_of_server
from chem_persistence import PgEventStore, PoolProvider, StepSignal, build_pool, embedded_postgres

__all__ = ["Instructions", "can_count", "count_instructions"]

ALONE, TOGETHER = 100, 4
"""How many calls count: of one event, and of 500."""

SIZE = 500
SECONDS_TO_START = 300.0
SECONDS_TO_STOP = 300.0
TOTAL = re.compile(rb"^(?:totals|summary): (\d+)", re.MULTILINE)

Measured = Callable[[str, int], Awaitable[int]]
"""Makes so many calls to the database of a URL, and returns the id of the session's process."""


class Instructions(msgspec.Struct, frozen=True):
    """Instructions of the server for an event.

    Of one that is appended alone, of one of 500 of an `append_kinds`, and of the same rows by a
    prepared INSERT and by COPY into a table with our keys, checks and indexes.
    """

    alone: float
    insert: float
    together: float
    copy: float


def can_count() -> bool:
    """Return whether callgrind is installed."""
    return shutil.which("valgrind") is not None


async def count_instructions(directory: Path) -> Instructions:
    """Count them on a new server whose data are in `directory`."""
    async with embedded_postgres(directory) as url, await build_pool(url) as pool:
        await pool.execute(read_sql("own_table"))
    server = await _start(directory)
    try:
        url = f"postgresql://postgres@/postgres?host={directory}"
        await _until_it_answers(url, server)
        return Instructions(
            alone=await _count(directory, url, _append_alone, ALONE),
            insert=await _count(directory, url, _insert, ALONE),
            together=await _count(directory, url, _append_together, TOGETHER) / SIZE,
            copy=await _count(directory, url, _copy, TOGETHER) / SIZE,
        )
    finally:
        server.send_signal(signal.SIGINT)  # a fast shutdown
        await asyncio.to_thread(server.wait, SECONDS_TO_STOP)


async def _start(directory: Path) -> "subprocess.Popen[bytes]":
    """Start the server under callgrind, as the user who owns its data."""
    cluster = directory / "cluster"
    owner = await asyncio.to_thread(cluster.stat)
    await asyncio.to_thread(os.chown, directory, owner.st_uid, owner.st_gid)
    command = [
        "valgrind",
        "--tool=callgrind",
        f"--callgrind-out-file={cluster}/callgrind.%p",
        *(str(programs_of_server() / "postgres"), "-D", str(cluster), "-k", str(directory)),
        *("-c", "listen_addresses=", "-c", "autovacuum=off", "-c", "fsync=off"),
    ]

    def start() -> "subprocess.Popen[bytes]":
        user, group = (owner.st_uid, owner.st_gid) if os.getuid() == 0 else (None, None)
        return subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, user=user, group=group
        )

    return await asyncio.to_thread(start)


async def _until_it_answers(url: str, server: "subprocess.Popen[bytes]") -> None:
    async with asyncio.timeout(SECONDS_TO_START):
        while server.poll() is None:
            try:
                await (await asyncpg.connect(url, timeout=SECONDS_TO_START)).close()
            except (OSError, asyncpg.CannotConnectNowError):
                await asyncio.sleep(0.2)
            else:
                return
    raise ChildProcessError(f"the server ended with status {server.returncode}")


async def _count(directory: Path, url: str, measured: Measured, calls: int) -> float:
    """Return the instructions of a call: of a session with twice as many less those of another."""
    few = await _total(directory, await measured(url, calls))
    many = await _total(directory, await measured(url, 2 * calls))
    return (many - few) / calls


async def _total(directory: Path, pid: int) -> int:
    """Return what a session executed, once its process has ended."""
    path = directory / "cluster" / f"callgrind.{pid}"
    async with asyncio.timeout(SECONDS_TO_STOP):
        while True:
            if found := TOTAL.search(await asyncio.to_thread(_content, path)):
                return int(found[1])
            await asyncio.sleep(0.1)


def _content(path: Path) -> bytes:
    return path.read_bytes() if path.exists() else b""


async def _append(url: str, append: Callable[[PgEventStore], Awaitable[None]]) -> int:
    async with await build_pool(
        url, min_size=1, max_size=1, silence_timeout=SECONDS_TO_STOP
    ) as pool:
        pid: int = await pool.fetchval("SELECT pg_backend_pid()")
        store = PgEventStore(PoolProvider(pool))
        await append(store)
        await store.aclose()
    return pid


async def _append_alone(url: str, calls: int) -> int:
    async def append(store: PgEventStore) -> None:
        flow_id = uuid4()
        for number in range(calls):
            version = number % len(FLOW_OF_TEN)
            if version == 0:
                flow_id = uuid4()
            await store.append_kind(flow_id, FLOW_OF_TEN[version], expected_version=version)

    return await _append(url, append)


async def _append_together(url: str, calls: int) -> int:
    async def append(store: PgEventStore) -> None:
        flow_id, kinds = uuid4(), [_signal(number) for number in range(SIZE)]
        for number in range(calls):
            await store.append_kinds(flow_id, kinds, expected_version=number * SIZE)

    return await _append(url, append)


async def _insert(url: str, calls: int) -> int:
    async def insert(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
        statement = await connection.prepare(read_sql("own_insert"))
        for _ in range(0, calls, len(ROWS_OF_TEN)):
            for row in _rows(ROWS_OF_TEN):
                await statement.fetchval(*row)

    return await _on_a_session(url, insert)


async def _copy(url: str, calls: int) -> int:
    texts = [
        ("stepsignal", msgspec.json.encode(_signal(number)).decode()) for number in range(SIZE)
    ]
    rows = list(_rows(texts * calls))

    async def copy(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
        for first in range(0, len(rows), SIZE):
            await connection.copy_records_to_table(
                "own_log", records=rows[first : first + SIZE], columns=COLUMNS
            )

    return await _on_a_session(url, copy)


async def _on_a_session(
    url: str, work: "Callable[[asyncpg.Connection[asyncpg.Record]], Awaitable[None]]"
) -> int:
    connection = await asyncpg.connect(url)
    try:
        await work(connection)
        return connection.get_server_pid()
    finally:
        await connection.close()


def _signal(number: int) -> StepSignal:
    return StepSignal(0, "embed_conformers", "progress", {"iteration": number})


def _rows(events: Iterable[tuple[str, str]]) -> Iterator[tuple[object, ...]]:
    """Yield the rows of a new flow, with ids as the library makes them, which have no index."""
    flow_id, now = uuid4(), datetime.now(UTC)
    for version, (event_type, payload) in enumerate(events):
        own_id = bytearray(uuid4().bytes)
        own_id[6], own_id[14], own_id[15] = 0x70 | own_id[6] & 0x0F, own_id[14] & 0xFC, 0
        yield flow_id, version, UUID(bytes=bytes(own_id)), now, event_type, payload, "{}", LINK
