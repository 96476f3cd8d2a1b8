"""Child processes of the tests: started, controlled, killed, and never left behind."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import UUID

from tests.support.faults.worker import Place

__all__ = ["KILLED", "Worker", "worker"]

REPOSITORY = Path(__file__).resolve().parents[3]
KILLED = -signal.SIGKILL


class Worker:
    """A process that runs `tests.support.faults.worker`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def line(self) -> str:
        """Wait for the next line that it prints."""
        assert self._process.stdout is not None
        return (await self._process.stdout.readline()).decode().strip()

    async def go_on(self) -> None:
        """Continue the process where it holds."""
        assert self._process.stdin is not None
        self._process.stdin.write(b"\n")
        await self._process.stdin.drain()

    async def end(self) -> tuple[int, str]:
        """Wait for its end; return its exit status and the last line that it printed."""
        output, _ = await self._process.communicate()
        lines = output.decode().split()
        assert self._process.returncode is not None
        return self._process.returncode, lines[-1] if lines else ""


@asynccontextmanager
async def worker(
    url: str,
    flow_id: UUID,
    runs: Path,
    *,
    by_step: bool = False,
    die: tuple[Place, int] | None = None,
    hold: str | None = None,
) -> AsyncIterator[Worker]:
    """Start a worker; kill it at the end if it still runs."""
    options = ["--by-step"] if by_step else []
    options += [] if die is None else ["--die", die[0].value, str(die[1])]
    options += [] if hold is None else ["--hold", hold]
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.support.faults.worker",
        url,
        str(flow_id),
        str(runs),
        *options,
        cwd=REPOSITORY,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(REPOSITORY), *sys.path])},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        yield Worker(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()
