"""One run: a fresh server, then the parts of the plan one after another."""

import time
from collections.abc import Callable, Iterable
from pathlib import Path

from benchmarks.arena import compete
from benchmarks.callgrind.instructions import can_count, count_instructions
from benchmarks.contestants.canonical import time_encodings
from benchmarks.contestants.competitors import COMPETITORS, GROWTH_SIZES
from benchmarks.contestants.imports import time_imports
from benchmarks.contestants.reads import write_flows
from benchmarks.data.grown import grow
from benchmarks.data.growth_database import growth_database
from benchmarks.facts import gather_facts
from benchmarks.plan import Plan, appending, growing, lines_of_workers, reading, working
from benchmarks.report.report import Report
from benchmarks.rounds import Task
from benchmarks.server import Server, running_server

__all__ = ["Run"]


class Run:
    """Runs a plan on a new server with its data in `directory`; `say` reports the progress."""

    def __init__(
        self, plan: Plan, command: str, directory: Path, say: Callable[[str], None]
    ) -> None:
        self._plan = plan
        self._report = Report(command=command)
        self._directory = directory
        self._say = say

    async def report(self) -> Report:
        """Measure, and return all figures."""
        begun, plan, report = time.monotonic(), self._plan, self._report
        if "imports" in plan.parts:
            self._say("imports")
            report.imports = time_imports(plan.import_rounds)
        if "canonical" in plan.parts:
            self._say("canonical JSON")
            report.encodings = time_encodings(plan.encoding_rounds)
        if "instructions" in plan.parts:
            await self._count()
        async with running_server(self._directory / "server") as server:
            report.facts = await gather_facts(server, self._directory)
            await self._compete(server, appending(plan, server.pid), plan.rounds)
            if "workers" in plan.parts:
                await self._compete(server, working(plan, server.pid), plan.rounds)
                await self._compete(server, lines_of_workers(plan, server.pid), plan.line_rounds)
            if "reads" in plan.parts:
                await self._write(server)
                await self._compete(server, reading(plan, server.pid), plan.read_rounds)
            if "growth" in plan.parts:
                await self._grow(server)
                await self._compete(server, growing(plan, server.pid), plan.growth_rounds)
        report.minutes = (time.monotonic() - begun) / 60
        return report

    async def _compete(self, server: Server, given: Iterable[Task], rounds: int) -> None:
        if tasks := list(given):
            self._say(
                f"{len(tasks)} tasks: "
                + "; ".join(dict.fromkeys(task.competitor for task in tasks))
            )
            results = await compete(server, tasks, rounds, self._directory, self._say)
            self._report.slices |= results.slices
            self._report.failures |= results.failures

    async def _count(self) -> None:
        if not can_count():
            self._report.why_not_counted = "valgrind is not installed"
            return
        self._say("instructions of the server, under callgrind")
        self._report.instructions = await count_instructions(self._directory / "counted")

    async def _write(self, server: Server) -> None:
        self._say(
            "writing what is read: a flow of 100,000 events, "
            f"{self._plan.small_flows:,} flows of 10"
        )
        url = await server.database(COMPETITORS["row floor"].database)
        self._report.written = await write_flows(url, self._plan.small_flows)

    async def _grow(self, server: Server) -> None:
        for size in self._plan.growth_sizes:
            events = GROWTH_SIZES[size]
            seconds = await grow(await server.database(growth_database(events)), events)
            self._report.grown_seconds[size] = seconds
            self._say(f"  wrote a log of {size} events in {seconds:.0f} s")
