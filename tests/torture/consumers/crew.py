"""The processes of the torture: started, killed, stopped, continued, and replaced when they end."""

import asyncio
import os
import signal
from collections import Counter
from contextlib import suppress
from pathlib import Path

from tests.support.commands import command_environment
from tests.support.forks import Child, ForkServer
from tests.torture.consumers.process import UNREACHABLE

__all__ = ["Crew"]

FORKED = ForkServer(
    "tests.torture.consumers.process",
    *("write", "postgresql://nobody@localhost:1/none", os.devnull),
    variables=command_environment(),
)
LONGEST_SECONDS = 3_600
EXPECTED = {0, 1, UNREACHABLE, -signal.SIGKILL}
"""How a process may end: told to, by a strike of its own, without a server, or killed."""


class _Process:
    def __init__(self, role: str, child: Child) -> None:
        self.role = role
        self.pid = child.pid
        self.ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._child = child
        asyncio.get_running_loop().add_reader(child.answer, self._end)

    def _end(self) -> None:
        asyncio.get_running_loop().remove_reader(self._child.answer)
        self.ended.set_result(self._child.wait())

    def signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            os.kill(self.pid, number)


class Crew:
    """So many processes of each role; one that ends is replaced while `is_kept` is true."""

    def __init__(self, url: str, directory: Path, mended: Path) -> None:
        self._url = url
        self._mended = mended
        self._printed = directory / "printed"
        self._processes: list[_Process] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._kept: set[str] = set()
        self.struck = Counter[str]()
        self.unexpected: list[str] = []

    async def start(self, role: str, count: int) -> None:
        """Start processes of a role, and replace those that end."""
        self._kept.add(role)
        for _ in range(count):
            await self._start(role)

    async def _start(self, role: str) -> None:
        output = os.open(self._printed, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        null = os.open(os.devnull, os.O_RDONLY)
        child = await asyncio.to_thread(
            FORKED.start,
            [role, self._url, str(self._mended)],
            streams=(null, output, output),
            variables=command_environment(),
            seconds=LONGEST_SECONDS,
        )
        os.close(output)
        os.close(null)
        process = _Process(role, child)
        self._processes.append(process)
        task = asyncio.create_task(self._supervise(process))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _supervise(self, process: _Process) -> None:
        code = await process.ended
        self._processes.remove(process)
        if code not in EXPECTED:
            printed = self._printed.read_text(errors="replace")[-2_000:]
            self.unexpected.append(f"a process ({process.role}) ended with {code}: {printed}")
        if process.role in self._kept:
            await asyncio.sleep(0.1 if code == UNREACHABLE else 0.0)
            await self._start(process.role)

    def count(self, role: str) -> int:
        """Count the processes of a role that run or are stopped."""
        return sum(process.role == role for process in self._processes)

    def strike(self, role: str, number: int, what: signal.Signals) -> None:
        """Send a signal to one of the processes of a role."""
        of_role = [process for process in self._processes if process.role == role]
        if of_role:
            self.struck[f"{what.name} {role}"] += 1
            of_role[number % len(of_role)].signal(what)

    def go_on(self) -> None:
        """Continue all that are stopped."""
        for process in self._processes:
            process.signal(signal.SIGCONT)

    async def end(self, role: str) -> None:
        """Kill the processes of a role, which are not replaced any more."""
        self._kept.discard(role)
        while ending := [process for process in self._processes if process.role == role]:
            for process in ending:
                process.signal(signal.SIGKILL)
            await asyncio.wait([process.ended for process in ending])
            await asyncio.sleep(0)  # lets their supervisors run
