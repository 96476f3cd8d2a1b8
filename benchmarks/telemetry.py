"""Measure what telemetry adds to an append, with and without an observer.

    python -m benchmarks.telemetry

The append is to the store in memory, which calls the hooks of every append and waits for no disk.
The states take turns in one process, and the best of many rounds counts, because other load on the
machine only adds time.
"""

import asyncio
import gc
from collections.abc import Awaitable, Callable
from time import perf_counter
from typing import Any
from uuid import UUID, uuid4

import chem_persistence.store.appender
import chem_persistence.store.attribution
from benchmarks.data.spread import Spread, spread
from chem_persistence import InMemoryEventStore, StepSignal
from chem_persistence.telemetry import hooks, listening

__all__ = ["main"]

APPENDS = 2_000
ROUNDS = 60
CALLS = 20_000

_HOOKED = (
    (chem_persistence.store.appender, "watched_append"),
    (chem_persistence.store.attribution, "current_traceparent"),
)


def main() -> None:
    """Run from the command line."""
    flow_id = uuid4()
    print(f"the hooks of an append to PostgreSQL, no API imported {_hooks(flow_id)}")
    states: dict[str, Callable[[], None]] = {"no hooks": _unhook, "no API imported": _hook}
    print(_table(states))
    from opentelemetry import trace  # noqa: PLC0415  # the lines above measure a program without it

    print(f"the same hooks, the API is imported, no provider      {_hooks(flow_id)}")
    print(_table(states))
    from opentelemetry.sdk.metrics import MeterProvider  # noqa: PLC0415
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader  # noqa: PLC0415
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415

    from chem_persistence.telemetry.observer import Observer  # noqa: PLC0415

    silent = Observer(trace.NoOpTracerProvider(), MeterProvider([InMemoryMetricReader()]))
    recording = Observer(TracerProvider(), MeterProvider([InMemoryMetricReader()]))
    listening_states: dict[str, Callable[[], None]] = {
        "no hooks": _unhook,
        "metrics only": lambda: _listen(silent),
        "metrics and spans": lambda: _listen(recording),
    }
    print(_table(listening_states))


def _hooks(flow_id: UUID) -> str:
    """Time all calls of `hooks` in an append to PostgreSQL, minus a loop over plain values."""
    work: Any = asyncio.sleep(0)

    def with_hooks() -> None:
        for _ in range(CALLS):
            hooks.current_traceparent()
            hooks.watched_append(work, flow_id, 1)
            hooks.current_span()
            hooks.watched_batch(work, ())

    def without() -> None:
        for _ in range(CALLS):
            _ = (work, flow_id, 1)

    best = {
        call: min(_seconds(call) for _ in range(ROUNDS)) / CALLS for call in (with_hooks, without)
    }
    work.close()
    return f"{(best[with_hooks] - best[without]) * 1e9:,.0f} ns at best"


def _seconds(call: Callable[[], None]) -> float:
    begun = perf_counter()
    call()
    return perf_counter() - begun


def _table(states: dict[str, Callable[[], None]]) -> str:
    times: dict[str, list[float]] = {state: [] for state in states}
    for _ in range(ROUNDS):
        for state, enter in states.items():
            enter()
            times[state].append(asyncio.run(_appends()))
    _hook()
    lines = [f"  {state:20} {_nanoseconds(spread(times[state]))}" for state in states]
    first, *others = times
    for state in others:
        more = (min(times[state]) - min(times[first])) * 1e9
        lines.append(f"  {state:20} {more:8,.0f} ns more than {first}, at best")
    return "\n".join(lines)


async def _appends() -> float:
    store = InMemoryEventStore()
    flow_id, kind = uuid4(), StepSignal(0, "acquire", "said", {"n": 1})
    gc.collect()
    gc.disable()
    begun = perf_counter()
    for _ in range(APPENDS):
        await store.append_kind(flow_id, kind)
    taken = (perf_counter() - begun) / APPENDS
    gc.enable()
    return taken


def _unhook() -> None:
    def same(work: Awaitable[Any], *_: object) -> Awaitable[Any]:
        return work

    for (module, name), nothing in zip(_HOOKED, (same, lambda: None), strict=True):
        setattr(module, name, nothing)


def _hook() -> None:
    listening.found.observer = None  # the state of a program before it listens
    for module, name in _HOOKED:
        setattr(module, name, getattr(hooks, name))


def _listen(observer: Any) -> None:
    _hook()
    listening.found.observer = observer  # a provider can be set only once


def _nanoseconds(measured: Spread) -> str:
    return f"{measured.low * 1e9:8,.0f} ns at best, {measured.median * 1e9:8,.0f} in the median"


if __name__ == "__main__":
    main()
