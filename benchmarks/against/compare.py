"""Both versions under the same loads, turn by turn, and what they use compared round by round."""

import time
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

from benchmarks.against.checkout import Checkout
from benchmarks.contestants.competitors import COMPETITORS
from benchmarks.contestants.contestant import Contestant
from benchmarks.contestants.load import Load, Slice
from benchmarks.facts import gather_facts
from benchmarks.plan import Plan
from benchmarks.report.report import P50, RATE, Figure, Report
from benchmarks.report.summary import heading, table
from benchmarks.rounds import Results, Run, Task, fail, run_rounds
from benchmarks.server import Server, running_server

__all__ = ["comparison", "measured_against", "tasks_against"]

LINES = (
    ("ours", (1, 32, 128, 1000)),
    ("ours, append_many", (32,)),
    ("ours, batches", (1,)),
    ("ours, artifact", (32,)),
    ("worker, bare engine", (1, 32)),
    ("worker, ours", (32,)),
)
"""What is compared: competitors of a full run, and how many flows they have."""


def tasks_against(plan: Plan, other: str, server: int) -> Iterator[Task]:
    """Yield the tasks, each of this version beside that of the other one."""
    load = Load(server=server, seconds=plan.seconds, warmup=plan.warmup)
    for name, numbers in LINES:
        for flows in numbers:
            for competitor in (name, _at(name, other)):
                yield Task(competitor, Load(load.server, flows, load.seconds, load.warmup))


async def measured_against(
    other: Checkout, plan: Plan, command: str, directory: Path, say: Callable[[str], None]
) -> Report:
    """Measure both versions on a new server in `directory`."""
    begun, report = time.monotonic(), Report(command=command)
    async with running_server(directory / "server") as server:
        report.facts = await gather_facts(server, directory)
        tasks = list(tasks_against(plan, other.name, server.pid))
        async with AsyncExitStack() as stack:
            results, runs = Results(), dict[str, Run]()
            for name in dict.fromkeys(task.competitor for task in tasks):
                made = await _contestant(server, name, other, directory)
                stack.push_async_callback(made.stop)
                try:
                    await made.start()
                except Exception as error:  # noqa: BLE001  # an earlier version may lack what it needs
                    fail(results, name, error)
                    say(f"  {name} failed: {error}")
                runs[name] = made.run
            await run_rounds(tasks, runs, plan.rounds, say, results)
    report.slices, report.failures = results.slices, results.failures
    report.minutes = (time.monotonic() - begun) / 60
    return report


async def _contestant(server: Server, name: str, other: Checkout, logs: Path) -> Contestant:
    own, _, revision = name.partition(" at ")
    side = f"at_{other.name}" if revision else "here"
    url = await server.database(f"{COMPETITORS[own].database}_{side}")
    log = logs / f"{name.replace(' ', '_')}.log"
    if not revision:
        return Contestant(own, url, log)
    return Contestant(own, url, log, other.python, other.environment)


def comparison(report: Report, other: Checkout) -> str:
    """Return the text: the CPU of both, and the ratios of this version to the other one."""
    rows = [("line/flows", "CPU us an event", f"at {other.name}", *_RATIOS)]
    rows += list(_rows(report, other.name))
    missing = [f"{name} gave up: {reason}" for name, reason in report.failures.items()]
    below = "ratios: this version / the other, median (lowest..highest round)"
    return "\n".join([*heading(report), "", *table(rows), below, *missing])


def _client(done: Slice) -> float:
    return done.client_cpu / max(done.events, 1e-9)


def _server(done: Slice) -> float:
    return done.server_cpu / max(done.events, 1e-9)


def _cpu(done: Slice) -> float:
    return done.cpu


_RATIOS: dict[str, Figure] = {
    "CPU": _cpu,
    "client": _client,
    "server": _server,
    "events/s": RATE,
    "p50": P50,
}
"""The columns of ratios, each of a figure."""


def _rows(report: Report, other: str) -> Iterator[tuple[str, ...]]:
    for name, numbers in LINES:
        for flows in numbers:
            own, theirs = f"{name}/{flows}", f"{_at(name, other)}/{flows}"
            used = [report.spread_of(key, _cpu) for key in (own, theirs)]
            ratios = [report.ratio(own, theirs, figure) for figure in _RATIOS.values()]
            yield (
                own,
                *("none" if each is None else each.scaled(1e6).text(".1f") for each in used),
                *("" if each is None else each.text() for each in ratios),
            )


def _at(name: str, other: str) -> str:
    return f"{name} at {other}"
