"""Child processes of the tests: controlled, killed, and never left behind.

They begin as forks of a server that has imported what they import: see fork_server.py.
"""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import UUID, uuid4

from tests.support.faults.worker import Place
from tests.support.forks import Child, ForkServer

__all__ = ["KILLED", "Worker", "worker"]

REPOSITORY = Path(__file__).resolve().parents[3]
KILLED = -signal.SIGKILL
ENVIRONMENT = os.environ | {"PYTHONPATH": os.pathsep.join([str(REPOSITORY), *sys.path])}
FORKED = ForkServer(
    "tests.support.faults.worker",
    *("postgresql://nobody@localhost:1/none", str(uuid4()), os.devnull),
    variables=ENVIRONMENT,
)


class Worker:
    """A process that runs `tests.support.faults.worker`."""

    def __init__(self, child: Child, to: int, back: int) -> None:
        self._child = child
        self._to = to
        self._back = os.fdopen(back, encoding="utf-8")
        self._status: int | None = None

    async def line(self) -> str:
        """Wait for the next line that it prints."""
        return (await asyncio.to_thread(self._back.readline)).strip()

    async def go_on(self) -> None:
        """Continue the process where it holds."""
        os.write(self._to, b"\n")

    async def end(self) -> tuple[int, str]:
        """Wait for its end; return its exit status and the last line that it printed."""
        if self._status is None:
            lines = (await asyncio.to_thread(self._back.read)).split()
            self._last = lines[-1] if lines else ""
            self._status = await asyncio.to_thread(self._child.wait)
        return self._status, self._last

    async def close(self) -> None:
        """Kill it if it still runs."""
        if self._status is None:
            os.kill(self._child.pid, signal.SIGKILL)
            await self.end()
        self._back.close()
        os.close(self._to)


@asynccontextmanager
async def worker(
    url: str,
    flow_id: UUID,
    runs: Path,
    *,
    by_step: bool = False,
    die: tuple[Place, int] | None = None,
    hold: str | None = None,
    lease: float | None = None,
) -> AsyncIterator[Worker]:
    """Start a worker; kill it at the end if it still runs."""
    options = ["--by-step"] if by_step else []
    options += [] if die is None else ["--die", die[0].value, str(die[1])]
    options += [] if hold is None else ["--hold", hold]
    options += [] if lease is None else ["--lease", str(lease)]
    theirs, to = os.pipe()
    back, output = os.pipe()
    arguments = [url, str(flow_id), str(runs), *options]
    child = await asyncio.to_thread(
        FORKED.start, arguments, streams=(theirs, output, 2), variables=ENVIRONMENT
    )
    os.close(theirs)
    os.close(output)
    started = Worker(child, to, back)
    try:
        yield started
    finally:
        await started.close()
