"""A server with every competitor of a run connected to it, each in its own process and database."""

import functools
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from benchmarks.contestants.competitors import COMPETITORS
from benchmarks.contestants.contestant import Contestant
from benchmarks.contestants.pgbench import run_pgbench
from benchmarks.contestants.reference import make_plain_tables
from benchmarks.rounds import Results, Run, Task, fail, run_rounds
from benchmarks.server import Server

__all__ = ["PGBENCH", "compete"]

PGBENCH = {"pgbench": "pgbench_event", "pgbench, artifact": "pgbench_artifact"}
"""Its scripts in `sql/`; both run in the database of the plain tables."""

_PLAIN = COMPETITORS["plain INSERT"].database
Say = Callable[[str], None]


async def compete(
    server: Server, tasks: Sequence[Task], rounds: int, logs: Path, say: Say
) -> Results:
    """Run the rounds of all tasks and return their slices."""
    results = Results()
    names = dict.fromkeys(task.competitor for task in tasks)
    async with _started(server, names, logs, results, say) as runs:
        await run_rounds(tasks, runs, rounds, say, results)
    return results


@asynccontextmanager
async def _started(
    server: Server, names: Iterable[str], logs: Path, results: Results, say: Say
) -> AsyncIterator[dict[str, Run]]:
    runs: dict[str, Run] = {}
    async with AsyncExitStack() as stack:
        for name in names:
            url = await server.database(_PLAIN if name in PGBENCH else COMPETITORS[name].database)
            if name in PGBENCH:
                await make_plain_tables(url)
                runs[name] = functools.partial(
                    run_pgbench, server.programs / "pgbench", url, PGBENCH[name]
                )
                continue
            contestant = Contestant(name, url, logs / f"{name.replace(' ', '_')}.log")
            stack.push_async_callback(contestant.stop)
            try:
                await contestant.start()
            except Exception as error:  # noqa: BLE001  # any failure of a peer is reported, not raised
                fail(results, name, error)
                say(f"  {name} failed: {error}")
            runs[name] = contestant.run
        yield runs
