"""The load of a slice, its result, and the loop that runs and times it."""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Sequence

import msgspec

from benchmarks.contestants.cpu import read_memory, reset_peak_memory, server_cpu_seconds
from benchmarks.data.spread import percentile

__all__ = ["Append", "Load", "Slice", "ThreadAppend", "Window", "drive", "drive_threads"]

Append = Callable[[], Awaitable[int]]
"""Makes one call; returns how many events it made durable (or read)."""

ThreadAppend = Callable[[], int]


class Load(msgspec.Struct, frozen=True):
    """`flows` concurrent flows, each making one call after another.

    They run for `seconds` after `warmup`, or, without a warm-up, `calls` times each. `server` is
    the process id of the postmaster, whose CPU time is counted.
    """

    server: int
    flows: int = 1
    seconds: float = 1.0
    warmup: float = 0.3
    calls: int = 0


class Slice(msgspec.Struct, frozen=True, kw_only=True):
    """The result over `seconds`: latencies are per call; `peak_bytes` is the growth of memory.

    `connections` is how many to the database there were, if that was counted.
    """

    events: float
    seconds: float
    client_cpu: float
    server_cpu: float
    p50: float
    p99: float | None
    peak_bytes: int = 0
    connections: int = 0

    @property
    def cpu(self) -> float:
        """Return the CPU seconds of client and server for each event."""
        return (self.client_cpu + self.server_cpu) / max(self.events, 1e-9)

    @property
    def rate(self) -> float:
        """Return the events per second."""
        return self.events / self.seconds


class Window:
    """The part of a slice that counts, and the CPU time used in it.

    A call that overlaps the start or the end counts in part, so that long calls can be measured.
    """

    def __init__(self, load: Load) -> None:
        self._server = load.server
        self._calls: list[tuple[float, float, int]] = []
        self._begin = self._end = (0.0, 0.0, 0.0)
        self.over = False
        reset_peak_memory()
        self._memory = read_memory("VmRSS")

    @staticmethod
    def now() -> float:
        """Return the time at which a call begins."""
        return time.perf_counter()

    def open(self) -> None:
        """Begin to count."""
        self._begin = self._read_clocks()

    def close(self) -> None:
        """Stop counting."""
        self._end = self._read_clocks()
        self.over = True

    def call_ended(self, begun: float, events: int) -> None:
        """Record a call that has just ended."""
        now = time.perf_counter()
        self._calls.append((begun, now, events))

    def call_took(self, seconds: float, events: int) -> None:
        """Record a call that took so long, and that the window counts whole."""
        self._calls.append((self._begin[0], self._begin[0] + seconds, events))

    def result(self) -> Slice:
        """Return what was counted."""
        opened, closed = self._begin[0], self._end[0]
        inside = [
            (ended - begun, events * (min(ended, closed) - max(begun, opened)) / (ended - begun))
            for begun, ended, events in self._calls
            if ended > opened and begun < closed
        ]
        latencies = sorted(latency for latency, _ in inside)
        return Slice(
            events=sum(events for _, events in inside),
            seconds=closed - opened,
            client_cpu=self._end[1] - self._begin[1],
            server_cpu=self._end[2] - self._begin[2],
            p50=percentile(latencies, 0.5),
            p99=percentile(latencies, 0.99),
            peak_bytes=read_memory("VmHWM") - self._memory,
        )

    def _read_clocks(self) -> tuple[float, float, float]:
        return time.perf_counter(), time.process_time(), server_cpu_seconds(self._server)


async def drive(appends: Sequence[Append], load: Load) -> Slice:
    """Run each of `appends` in its own task."""
    window = Window(load)

    async def flow(append: Append) -> None:
        left = load.calls or -1
        while left and not window.over:
            begun = time.perf_counter()
            window.call_ended(begun, await append())
            left -= 1

    async with asyncio.TaskGroup() as tasks:
        if load.calls:
            window.open()
        flows = [tasks.create_task(flow(append)) for append in appends]
        if load.calls:
            await asyncio.wait(flows)
        else:
            await asyncio.sleep(load.warmup)
            window.open()
            await asyncio.sleep(load.seconds)
        window.close()
    return window.result()


async def drive_threads(appends: Sequence[ThreadAppend], load: Load) -> Slice:
    """Run each of `appends` in its own thread, while the event loop keeps running."""
    window = Window(load)
    failures: list[Exception] = []

    def flow(append: ThreadAppend) -> None:
        left = load.calls or -1
        try:
            while left and not window.over:
                begun = time.perf_counter()
                window.call_ended(begun, append())
                left -= 1
        except Exception as error:  # noqa: BLE001  # raised below, by the waiting thread
            failures.append(error)

    threads = [threading.Thread(target=flow, args=(append,), daemon=True) for append in appends]
    if load.calls:
        window.open()
    for thread in threads:
        thread.start()
    if not load.calls:
        await asyncio.sleep(load.warmup)
        window.open()
        await asyncio.sleep(load.seconds)
        window.close()
    for thread in threads:
        await asyncio.to_thread(thread.join)
    if load.calls:
        window.close()
    if failures:
        raise ExceptionGroup(f"{len(failures)} of {len(threads)} threads failed", failures)
    return window.result()
