"""Measure what an append costs each node: of one server, and of Citus with one worker and two.

    python -m benchmarks.nodes --cluster PROGRAM [--events 20000] [--tasks 64]

`PROGRAM start` starts a new coordinator with two workers on this machine, and prints the URL of a
superuser on the coordinator as its last line; `PROGRAM stop` ends them. The log is first on the
coordinator alone, then distributed over one worker, then over two. On one machine more nodes do not
append faster; the CPU time that each node spends says how many events a node of its own could take.
CPU is read from /proc, so on Linux, and by a user who may read the nodes' folders.
"""

import argparse
import asyncio
import os
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from uuid import uuid4

import msgspec

from benchmarks.read_models import flow_of_ten
from chem_persistence import FeedPosition, PgEventStore, PoolProvider, build_pool
from chem_persistence.postgres.admin.distribute import distribute_log

WORKERS = "SELECT nodename, nodeport FROM pg_dist_node WHERE groupid > 0 ORDER BY nodeid"
FOLDERS = "SELECT result FROM run_command_on_workers('SHOW data_directory') ORDER BY nodeport"
TICKS = os.sysconf("SC_CLK_TCK")
FLOW = 10


class Cost(msgspec.Struct, frozen=True):
    """Of one layout: events a second, and CPU microseconds of each part for an event."""

    rate: float
    client: float
    coordinator: float
    workers: float
    page: float
    """Milliseconds for a page of 1,000 events of the feed; the least of ten."""


def main() -> None:
    """Measure the three layouts, and print a line of each."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.nodes")
    parser.add_argument("--cluster", metavar="PROGRAM", required=True)
    parser.add_argument("--events", type=int, default=20_000)
    parser.add_argument("--tasks", type=int, default=64)
    arguments = parser.parse_args()
    arguments.events -= arguments.events % (FLOW * arguments.tasks)
    print(
        "the log is on              events/s  CPU us an event: client  coordinator  workers  page"
    )
    for workers, place in enumerate(("one server", "one worker", "two workers")):
        try:
            url = _run(arguments.cluster, "start").splitlines()[-1]
            cost = asyncio.run(_measure(url, workers, arguments.events, arguments.tasks))
        finally:
            _run(arguments.cluster, "stop")
        print(
            f"{place:<24}{cost.rate:>11,.0f}{cost.client:>25.0f}{cost.coordinator:>13.0f}"
            f"{cost.workers:>9.0f}{cost.page:>4.0f} ms"
        )


async def _measure(url: str, workers: int, events: int, tasks: int) -> Cost:
    async with await build_pool(url, max_size=1) as pool:
        nodes = await pool.fetch(WORKERS)
        for node in nodes[workers:] if workers else ():
            await pool.execute(
                "SELECT citus_remove_node($1, $2)", node["nodename"], node["nodeport"]
            )
        if workers:
            async with PoolProvider(pool).acquire() as connection:
                await distribute_log(connection)
        folders = [await pool.fetchval("SHOW data_directory")]
        folders += [row["result"] for row in await pool.fetch(FOLDERS)] if workers else []
    async with await build_pool(url) as pool:
        store = PgEventStore(PoolProvider(pool))
        await _append(store, FLOW * tasks, tasks)  # plans and connections
        before, begun, own = _spent(folders), time.perf_counter(), time.process_time()
        await _append(store, events, tasks)
        seconds, own = time.perf_counter() - begun, time.process_time() - own
        after = _spent(folders)
        page = min([await _read_page(store) for _ in range(10)])
        await store.aclose()
    coordinator, *others = ((after[folder] - before[folder]) / events * 1e6 for folder in folders)
    return Cost(events / seconds, own / events * 1e6, coordinator, sum(others), page)


async def _append(store: PgEventStore, events: int, tasks: int) -> None:
    """Append flows of ten, one event a call, by so many tasks at once."""

    async def one_task() -> None:
        for _ in range(events // FLOW // tasks):
            flow_id = uuid4()
            for version, kind in enumerate(flow_of_ten()):
                await store.append_kind(flow_id, kind, expected_version=version)

    async with asyncio.TaskGroup() as group:
        for _ in range(tasks):
            group.create_task(one_task())


async def _read_page(store: PgEventStore) -> float:
    begun = time.perf_counter()
    await store.read_feed_page(FeedPosition.start(), limit=1_000)
    return (time.perf_counter() - begun) * 1e3


def _spent(folders: list[str]) -> Mapping[str, float]:
    """Return the CPU seconds of each server so far, of its present and past processes."""
    spent = dict.fromkeys(folders, 0.0)
    servers = {
        int((Path(folder) / "postmaster.pid").read_text("ascii").split()[0]): folder
        for folder in folders
    }
    for process in Path("/proc").glob("[0-9]*"):
        try:
            fields = (process / "stat").read_text("ascii", "replace").rpartition(")")[2].split()
        except OSError:  # it has ended meanwhile
            continue
        parent, own, ended = (
            int(fields[1]),
            sum(map(int, fields[11:13])),
            sum(map(int, fields[13:15])),
        )
        if folder := servers.get(int(process.name)):
            spent[folder] += (own + ended) / TICKS
        elif folder := servers.get(parent):
            spent[folder] += own / TICKS
    return spent


def _run(program: str, command: str) -> str:
    done = subprocess.run([program, command], stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout


if __name__ == "__main__":
    main()
