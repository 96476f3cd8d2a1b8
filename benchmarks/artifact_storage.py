"""Measure each way to store an artifact: server CPU, disk, WAL, time to write and to read.

    python -m benchmarks.artifact_storage
        python -m benchmarks.artifact_storage --database-url URL   # another server on this machine

The second form measures a server of yours, such as one built with LZ4. The artifacts are those of
`examples/screen_nci.py` (its records and conformers) and what is commonly derived from conformers:
coordinates in JSON, distances in binary, pictures. Each choice has its own connection and its own
table. A round inserts all artifacts of a corpus with one choice after another, in an order that
differs from round to round, and reads them back. CPU time is that of the connection's server
process, in nanoseconds as the scheduler counts them, so it includes the COMMIT.
"""

import argparse
import asyncio
import hashlib
import random
import statistics
import subprocess
import sys
import time
from array import array
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TypeAlias

import asyncpg
import msgspec
from rdkit import Chem
from rdkit.Chem.Draw import rdMolDraw2D

from chem_persistence import build_pool, canonical_json, embedded_postgres
from chem_persistence.postgres.connection.jsonb import pass_jsonb_as_bytes
from chem_persistence.postgres.schema.statements import statement

QUOTE_CREATE_SCHEMA = statement("migrations/quote_create_schema")


Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
Corpora: TypeAlias = Mapping[str, Sequence["Body"]]

SCRIPT = Path(__file__).parents[1] / "examples" / "screen_nci.py"
SQL = Path(__file__).parent / "sql" / "artifact_storage"
CHOICES = ("extended", "extended_lz4", "external", "external_inline", "main")
CHUNK_BYTES = 2**20
NO_SUCH_METHOD = asyncpg.FeatureNotSupportedError


class Body(msgspec.Struct, frozen=True):
    """The JSON value of an artifact, or its content."""

    payload: str | None
    content: bytes | None

    def encoded(self) -> bytes:
        """Return the bytes that are stored."""
        return (
            self.content
            if self.payload is None and self.content is not None
            else str(self.payload).encode()
        )


class Cost(msgspec.Struct):
    """The cost per artifact in one round: microseconds and bytes."""

    cpu: float
    client: float
    wal: float
    read_cpu: float
    read: float


def sql(name: str) -> str:
    """Read one of this benchmark's statements."""
    return (SQL / f"{name}.sql").read_text(encoding="utf-8")


class Choice:
    """One way of storing: a table in its own schema, and a connection used for nothing else."""

    def __init__(self, name: str, connection: Connection) -> None:
        self.name = name
        self._connection = connection
        self._pid = connection.get_server_pid()

    async def begin(self, schema: str) -> None:
        """Create the table, dropping an earlier one."""
        await self._connection.execute(await self._connection.fetchval(QUOTE_CREATE_SCHEMA, schema))
        await self._connection.execute(
            "SELECT set_config('search_path', quote_ident($1), false)", schema
        )
        await self._connection.execute(sql("create_table"))
        await self._connection.execute(sql(self.name))

    async def round(self, number: int, bodies: Sequence[Body]) -> Cost:
        """Insert the artifacts, each in its own transaction, and read them."""
        rows = [(_hash(number, body), body.payload, body.content) for body in bodies]
        insert = await self._connection.prepare(sql("insert_artifact"))
        read = await self._connection.prepare(sql("read_artifact"))
        wal, cpu, begun = await self._wal(), self._cpu(), time.perf_counter()
        for row in rows:
            await insert.fetch(*row)
        inserted, written = time.perf_counter() - begun, await self._wal()
        insert_cpu = self._cpu() - cpu
        cpu, begun = self._cpu(), time.perf_counter()
        for artifact_hash, _, _ in rows:
            await read.fetch(artifact_hash)
        took, count = time.perf_counter() - begun, len(rows) / 1e6
        return Cost(
            insert_cpu / count,
            inserted / count,
            (written - wal) / len(rows),
            (self._cpu() - cpu) / count,
            took / count,
        )

    async def size(self) -> int:
        """Return the size of the table on disk, in bytes."""
        size: int = await self._connection.fetchval(sql("measure_size"), "workflow_step_artifacts")
        return size

    async def _wal(self) -> int:
        return int(await self._connection.fetchval(sql("measure_wal")))

    def _cpu(self) -> float:
        """Return the CPU seconds of the server process.

        Source: Linux, Documentation/scheduler/sched-stats.
        """
        return (
            int(Path(f"/proc/{self._pid}/schedstat").read_text(encoding="ascii").split()[0]) / 1e9
        )


def _hash(number: int, body: Body) -> str:
    return hashlib.sha256(number.to_bytes(4) + body.encoded()).hexdigest()


async def read_corpora(directory: Path) -> Corpora:
    """Read the screen's results from `directory`, and derive the other corpora from them."""
    async with embedded_postgres(directory) as url, await build_pool(url) as pool:
        rows = await pool.fetch(sql("read_screened"))
    molfiles = [row["content"] for row in rows if row["kind"] == "conformer"]
    return {
        "records, JSON": [
            Body(row["payload"].decode(), None) for row in rows if row["payload"] is not None
        ],
        "conformers, molfile": [Body(None, molfile) for molfile in molfiles],
        "coordinates of 40 molecules, JSON": list(_tables(molfiles)),
        "distances, float64": [Body(None, _distances(molfile)) for molfile in molfiles],
        "chunks of molfiles, text": [Body(None, chunk) for chunk in _text_chunks(molfiles)],
        "chunks of a trajectory, float32": [
            Body(None, _trajectory(molfiles, chunk)) for chunk in range(4)
        ],
        "pictures, PNG": [Body(None, _picture(molfile)) for molfile in molfiles[:50]],
    }


def _tables(molfiles: Sequence[bytes]) -> Iterator[Body]:
    for first in range(0, len(molfiles) - 39, 40):
        table = {f"molecule {n}": _coordinates(molfiles[n]) for n in range(first, first + 40)}
        yield Body(canonical_json(table).decode(), None)


def _coordinates(molfile: bytes) -> list[list[float]]:
    conformer = _molecule(molfile).GetConformer()
    return [[float(value) for value in position] for position in conformer.GetPositions().tolist()]


def _distances(molfile: bytes) -> bytes:
    return array("d", Chem.Get3DDistanceMatrix(_molecule(molfile)).ravel().tolist()).tobytes()


def _text_chunks(molfiles: Sequence[bytes]) -> Iterator[bytes]:
    """Fill chunks with the molfiles, repeated: farther apart than PostgreSQL's compression sees."""
    text = b"".join(molfiles)
    endless = text * (4 * CHUNK_BYTES // len(text) + 1)
    for first in range(0, 4 * CHUNK_BYTES, CHUNK_BYTES):
        yield endless[first : first + CHUNK_BYTES]


def _trajectory(molfiles: Sequence[bytes], chunk: int) -> bytes:
    """Return a chunk of 1 MiB of frames: each atom moves by 0.05 angstrom around its position."""
    places = [value for atom in _coordinates(molfiles[chunk]) for value in atom]
    tremble = random.Random(chunk)  # noqa: S311  # a simulation, and the same one each time
    frames = array("f")
    while len(frames) < CHUNK_BYTES // frames.itemsize:
        frames.extend(value + tremble.gauss(0, 0.05) for value in places)
    return frames.tobytes()[:CHUNK_BYTES]


def _picture(molfile: bytes) -> bytes:
    drawing = rdMolDraw2D.MolDraw2DCairo(600, 400)
    rdMolDraw2D.PrepareAndDrawMolecule(drawing, Chem.RemoveHs(_molecule(molfile)))
    drawing.FinishDrawing()
    return bytes(drawing.GetDrawingText())


def _molecule(molfile: bytes) -> Chem.Mol:
    return Chem.MolFromMolBlock(molfile.decode(), removeHs=False)


async def measure(url: str, corpora: Corpora, rounds: int) -> None:
    """Print a table for each corpus."""
    connection = await asyncpg.connect(url)
    print(await connection.fetchval("SELECT version()"))
    await connection.close()
    for number, (label, bodies) in enumerate(corpora.items()):
        mean = statistics.fmean(len(body.encoded()) for body in bodies)
        print(
            f"\n{label}: {len(bodies)} artifacts of {mean:,.0f} bytes on average, {rounds} rounds\n"
        )
        print(
            "| storage | server CPU us | client us | WAL bytes | disk bytes "
            "| read: server CPU us | client us |"
        )
        print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
        async with opened(url, number) as choices:
            await _measure_corpus(choices, bodies, rounds)


@asynccontextmanager
async def opened(url: str, number: int) -> AsyncIterator[list[Choice]]:
    """Open the choices that the server supports, each with a new table."""
    async with AsyncExitStack() as stack:
        choices = []
        for name in CHOICES:
            connection = await asyncpg.connect(url)
            stack.push_async_callback(connection.close)
            await pass_jsonb_as_bytes(connection)
            choice = Choice(name, connection)
            try:
                await choice.begin(f"{name}_{number}")
            except NO_SUCH_METHOD:
                continue
            choices.append(choice)
        yield choices


async def _measure_corpus(choices: Sequence[Choice], bodies: Sequence[Body], rounds: int) -> None:
    costs: dict[str, list[Cost]] = {choice.name: [] for choice in choices}
    for number in range(rounds + 1):
        for choice in random.sample(choices, len(choices)):
            cost = await choice.round(number, bodies)
            if number > 0:  # the first one fills caches
                costs[choice.name].append(cost)
    for choice in choices:
        told = costs[choice.name]
        cpu, client, wal, read_cpu, read = (
            statistics.median(getattr(cost, field) for cost in told)
            for field in Cost.__struct_fields__
        )
        size = await choice.size() / len(bodies) / (rounds + 1)
        print(
            f"| {choice.name} | {cpu:,.0f} | {client:,.0f} | {wal:,.0f} | {size:,.0f} "
            f"| {read_cpu:,.0f} | {read:,.0f} |"
        )


def screen(directory: Path, limit: int) -> None:
    """Run the example, which continues where it stopped and repeats nothing."""
    command = [sys.executable, str(SCRIPT), "--limit", str(limit), "--data", str(directory)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


async def main() -> None:
    """Run the measurement that the command line asks for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--data", type=Path, default=Path("data", "artifact_storage"), help="the screening's data"
    )
    parser.add_argument("--limit", type=int, default=200, help="molecules to screen (default: 200)")
    parser.add_argument("--rounds", type=int, default=15, help="rounds a corpus (default: 15)")
    parser.add_argument(
        "--database-url", help="a superuser's, on this machine (default: a new embedded server)"
    )
    options = parser.parse_args()
    await asyncio.to_thread(screen, options.data, options.limit)
    corpora = await read_corpora(options.data)
    if options.database_url is not None:
        await measure(options.database_url, corpora, options.rounds)
        return
    async with embedded_postgres() as url:
        await measure(url, corpora, options.rounds)


if __name__ == "__main__":
    asyncio.run(main())
