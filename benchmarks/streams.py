"""Measure how fast a large content is stored and read, and how much memory that takes.

python -m benchmarks.streams [--mebibytes 600]
"""

import argparse
import asyncio
import random
import time
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

from chem_persistence import PgEventStore, PoolProvider, StepSignal, build_pool, embedded_postgres

__all__ = ["main"]

_MEBIBYTE = 2**20
_PIECE = random.Random(2026).randbytes(300_000)  # noqa: S311  # incompressible, not secret


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.streams")
    parser.add_argument("--mebibytes", type=int, default=600)
    asyncio.run(_measure(parser.parse_args().mebibytes * _MEBIBYTE))


async def _measure(size: int) -> None:
    async with embedded_postgres() as url, await build_pool(url) as pool:
        store, flow_id = PgEventStore(PoolProvider(pool)), uuid4()
        await store.append_kind(flow_id, StepSignal(0, "simulate", "idle"))
        idle, begun = _most_memory(), time.perf_counter()
        async with store.transaction() as tx:
            artifact = await tx.put_stream(
                kind="Noise", chunks=_pieces(size), media_type="application/octet-stream"
            )
            await tx.append_kind(flow_id, StepSignal(0, "simulate", "stored"), artifacts=[artifact])
        stored = time.perf_counter()
        read = 0
        async for chunk in store.read_artifact(artifact.hash):
            read += len(chunk)
        ended = time.perf_counter()
        print(
            f"{read / _MEBIBYTE:,.0f} MiB; in at {size / _MEBIBYTE / (stored - begun):.0f} MiB/s,",
            end=" ",
        )
        print(f"out at {read / _MEBIBYTE / (ended - stored):.0f} MiB/s;", end=" ")
        print(
            f"{(_most_memory() - idle) / _MEBIBYTE:.0f} MiB more memory than an idle store (VmHWM)"
        )
        await store.aclose()


async def _pieces(size: int) -> AsyncIterator[bytes]:
    """Yield noise; the pieces differ, so that no two chunks are equal."""
    number = 0
    while size > 0:
        piece = number.to_bytes(8, "big") + _PIECE[: size - 8]
        yield piece[:size]
        size -= len(piece)
        number += 1


def _most_memory() -> int:
    """Return the peak memory of this process in bytes; Linux only."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


if __name__ == "__main__":
    main()
