"""Measure what read models cost: the append under each design, and the queries on a grown log.

    python -m benchmarks.read_models [--events 1000000] [--rounds 9] [--tasks 64] [--slice 2]

All designs share one server, each in its own schema. In every round each design appends for a slice
of time; the order rotates from round to round. Ratios are to the design without read models, and
are taken round by round. The queries run on an otherwise idle server.
"""

import argparse
import asyncio
import hashlib
import statistics
import time
from collections.abc import Awaitable, Callable
from functools import partial
from uuid import uuid4

import asyncpg
import msgspec

from benchmarks.data.grown import grow
from benchmarks.data.history import FLOW_OF_TEN
from benchmarks.data.statements import read_sql
from chem_persistence import (
    FlowEventKind,
    FlowState,
    PgEventStore,
    PgReadModels,
    PoolProvider,
    StepFinished,
    build_pool,
    embedded_postgres,
)

DESIGNS = (
    "before",
    "no_provenance",
    "shipped",
    "all_outputs",
    "first_output",
    "event_type",
    "step_status",
    "flow_table",
)


class Slice(msgspec.Struct):
    """Events per second, WAL bytes per event; 99.9th percentile and maximum in milliseconds."""

    rate: float
    wal: float
    p999: float
    slowest: float


def flow_of_ten() -> list[FlowEventKind]:
    """Return the flow of ten with new outputs."""
    own = uuid4().hex
    return [
        msgspec.structs.replace(
            kind, outputs=(hashlib.sha256(f"{own} {kind.step_index}".encode()).hexdigest(),)
        )
        if isinstance(kind, StepFinished)
        else kind
        for kind in FLOW_OF_TEN
    ]


async def append_for(store: PgEventStore, seconds: float, tasks: int) -> list[float]:
    """Append flows of ten, one event per call, and return the milliseconds of each call."""
    took, end = [], time.perf_counter() + seconds

    async def one_task() -> None:
        while time.perf_counter() < end:
            flow_id = uuid4()
            for version, kind in enumerate(flow_of_ten()):
                begun = time.perf_counter()
                await store.append_kind(flow_id, kind, expected_version=version)
                took.append((time.perf_counter() - begun) * 1000)

    await asyncio.gather(*(one_task() for _ in range(tasks)))
    return sorted(took)


async def measure(
    store: PgEventStore, pool: "asyncpg.Pool[asyncpg.Record]", seconds: float, tasks: int
) -> Slice:
    """Append for one slice."""
    lsn = await pool.fetchval("SELECT pg_current_wal_insert_lsn()")
    begun = time.perf_counter()
    took = await append_for(store, seconds, tasks)
    elapsed = time.perf_counter() - begun
    wal = await pool.fetchval("SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), $1)", lsn)
    return Slice(len(took) / elapsed, float(wal) / len(took), took[-len(took) // 1000], took[-1])


async def measure_appends(url: str, rounds: int, seconds: float, tasks: int) -> None:
    """Append under each design and print the cost; then time the provenance queries in each."""
    pools = {}
    for name in DESIGNS:
        pools[name] = await build_pool(url, max_size=3, schema=name)
        if name != "shipped":
            await pools[name].execute(read_sql(f"read_models/{name}"))
    stores = {name: PgEventStore(PoolProvider(pool)) for name, pool in pools.items()}
    slices: dict[str, list[Slice]] = {name: [] for name in pools}
    names = list(pools)
    for number in range(-1, rounds):  # the first round warms up
        turned = names[number % len(names) :] + names[: number % len(names)]
        for name in turned:
            measured = await measure(stores[name], pools[name], seconds, tasks)
            if number >= 0:
                slices[name].append(measured)
    print(
        f"{'design':19}{'events/s':>9}  {'x before':20}"
        f"{'WAL bytes':>10}{'p99.9 ms':>10}{'slowest ms':>11}"
    )
    for name in names:
        ratios = [
            own.rate / floor.rate for own, floor in zip(slices[name], slices["before"], strict=True)
        ]
        rate = statistics.median(each.rate for each in slices[name])
        wal = statistics.median(each.wal for each in slices[name])
        spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f}..{max(ratios):.2f})"
        p999 = statistics.median(each.p999 for each in slices[name])
        slowest = statistics.median(each.slowest for each in slices[name])
        print(f"{name:19}{rate:>9,.0f}  {spread:20}{wal:>10,.0f}{p999:>10.0f}{slowest:>11.0f}")
    for name in ("no_provenance", "shipped"):
        await ask_provenance(name, pools[name])
    for name in names:
        await stores[name].aclose()
        await pools[name].close()


async def ask_provenance(name: str, pool: "asyncpg.Pool[asyncpg.Record]") -> None:
    """Time the queries about one artifact."""
    await pool.execute("VACUUM ANALYZE event_log")
    events = await pool.fetchval("SELECT count(*) FROM event_log")
    output = await pool.fetchval(
        "SELECT payload #>> '{outputs,0}' FROM event_log "
        "WHERE event_type = 'stepfinished' AND payload ->> 'step_index' = '1' LIMIT 1"
    )
    models = PgReadModels(PoolProvider(pool))
    print(f"{name}, {events:,} events:")
    await timed("  producers", lambda: models.producers(output))
    await timed("  consumers", lambda: models.consumers(output))
    await timed("  ancestors", lambda: models.ancestors(output))
    await timed("  descendants", lambda: models.descendants(output))


async def ask_of_grown(url: str, events: int) -> None:
    """Grow a log and time the queries behind the lists."""
    print(f"a log of {events:,} events, grown in {await grow(url, events):.0f} s")
    async with await build_pool(url, max_size=2) as pool:
        models = PgReadModels(PoolProvider(pool))
        page = await models.flows()
        await timed("flows, the newest 50", models.flows)
        await pool.execute(read_sql("read_models/joined_flows"))
        for view in ("flows", "joined_flows"):
            newest = f"SELECT * FROM {view} ORDER BY started_at DESC LIMIT 50"  # noqa: S608  # constants
            await timed(f"  by SQL, of {view}", partial(pool.fetch, newest))
        await timed("flows, the next 50", lambda: models.flows(before=page[-1]))
        for state in FlowState:
            await timed(f"flows, {state}", partial(models.flows, state=state))
        await timed("flows, of no definition", lambda: models.flows(definition_hash="0" * 64), 10)
        await timed("one flow", lambda: models.flow(page[0].flow_id))
        await timed("its steps", lambda: models.step_executions(page[0].flow_id))
        await timed("errors, the newest 50", models.step_errors)
        await timed("statistics", models.statistics)
        await timed("refresh", models.refresh, 3)
        await timed("rebuild, nothing wrong", models.rebuild, 1)


async def timed(label: str, question: Callable[[], Awaitable[object]], times: int = 50) -> None:
    """Run a query `times` times, and print the milliseconds."""
    took = []
    for _ in range(times):
        begun = time.perf_counter()
        await question()
        took.append((time.perf_counter() - begun) * 1000)
        if sum(took) > 5_000:
            break
    print(f"{label:26}{statistics.median(took):>10.2f} ms ({min(took):.2f}..{max(took):.2f})")


async def main() -> None:
    """Measure both parts."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--tasks", type=int, default=64)
    parser.add_argument(
        "--slice", type=float, default=2.0, help="seconds for which a design appends in a round"
    )
    options = parser.parse_args()
    if options.rounds:
        async with embedded_postgres() as url:
            await measure_appends(url, options.rounds, options.slice, options.tasks)
    if options.events:
        async with embedded_postgres() as url:
            await ask_of_grown(url, options.events)


if __name__ == "__main__":
    asyncio.run(main())
