"""How long the event loop runs nothing else while a large artifact is appended and read.

    python -m benchmarks.gaps                # a server of its own
    python -m benchmarks.gaps URL

A task wakes every millisecond and records the longest time between two of its turns, beyond the
millisecond: the gap. `cpu` is the most CPU time that the process used between two turns: a longer
gap is time in which other processes had the cores. `gc` is the longest garbage collection, which is
part of both. Each artifact has about 50 MiB; `--mib` changes that.
"""

import argparse
import asyncio
import gc
import time
from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from random import Random
from typing import Any
from uuid import uuid4

from chem_persistence import (
    Artifact,
    PgEventStore,
    PoolProvider,
    StepSignal,
    build_pool,
    embedded_postgres,
)

MIB = 2**20
TICK = 0.001
SETTLE_SECONDS = 0.05
"""Pause before each call, in which what the one before left behind is freed."""


class Ticker:
    """The longest gaps since the last `reset`, in seconds."""

    def __init__(self) -> None:
        self._collecting_since = 0.0
        self.reset()

    def reset(self) -> None:
        """Forget what was recorded."""
        self.gap = self.cpu = self.collection = 0.0

    async def run(self) -> None:
        """Wake every millisecond, until cancelled."""
        woken, used = time.perf_counter(), time.process_time()
        while True:
            await asyncio.sleep(TICK)
            now, now_used = time.perf_counter(), time.process_time()
            self.gap = max(self.gap, now - woken - TICK)
            self.cpu = max(self.cpu, now_used - used)
            woken, used = now, now_used

    def collect(self, phase: str, _: dict[str, int]) -> None:
        """Record a garbage collection; see `gc.callbacks`."""
        if phase == "start":
            self._collecting_since = time.perf_counter()
        else:
            took = time.perf_counter() - self._collecting_since
            self.collection = max(self.collection, took)


def artifacts(mib: int) -> Iterator[tuple[str, Artifact]]:
    """Yield artifacts of about this many MiB, each with its name."""
    random = Random()  # noqa: S311  # new contents in each run
    content = random.randbytes(mib * MIB)
    yield "bytes", Artifact.from_content(kind="x", content=content, media_type="x/y")
    strings = [random.randbytes(MIB // 2).hex() for _ in range(mib)]
    yield "JSON of long strings", Artifact.from_payload(kind="x", payload=strings)
    rows = [
        {"smiles": "C" * (number % 17), "energy": random.random(), "n": number}
        for number in range(18_000 * mib)
    ]
    yield "JSON of short rows", Artifact.from_payload(kind="x", payload=rows)


async def measure(store: PgEventStore, mib: int) -> None:
    """Append and read each artifact, and print a line for each call."""
    ticker = Ticker()
    gc.callbacks.append(ticker.collect)
    ticking = asyncio.create_task(ticker.run())
    print(f"{'gap, in ms':32}{'gap':>7}{'cpu':>7}{'gc':>7}{'call':>9}")
    await store.append_kind(uuid4(), StepSignal(0, "s", "x"))

    async def timed(name: str, call: Awaitable[Any]) -> None:
        gc.collect()
        await asyncio.sleep(SETTLE_SECONDS)
        ticker.reset()
        began = time.perf_counter()
        kept = await call
        took = time.perf_counter() - began
        await asyncio.sleep(2 * TICK)
        figures = (ticker.gap, ticker.cpu, ticker.collection)
        print(f"{name:32}" + "".join(f"{1e3 * x:7.0f}" for x in figures) + f"{1e3 * took:9.0f}")
        del kept

    for name, artifact in artifacts(mib):
        event = StepSignal(0, "s", "x")
        await timed(f"append, {name}", store.append_kind(uuid4(), event, artifacts=[artifact]))
        await timed(f"get, {name}", store.get_artifact(artifact.hash))
    ticking.cancel()
    gc.callbacks.remove(ticker.collect)


@asynccontextmanager
async def opened(url: str | None) -> AsyncIterator[PgEventStore]:
    """Open a store on the database of a URL, or on a server of its own."""
    async with AsyncExitStack() as stack:
        if url is None:
            url = await stack.enter_async_context(embedded_postgres())
        store = PgEventStore(PoolProvider(await stack.enter_async_context(await build_pool(url))))
        yield store
        await store.aclose()


async def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gaps")
    parser.add_argument("url", nargs="?")
    parser.add_argument("--mib", type=int, default=50)
    arguments = parser.parse_args()
    async with opened(arguments.url) as store:
        await measure(store, arguments.mib)


if __name__ == "__main__":
    asyncio.run(main())
