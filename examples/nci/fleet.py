"""Worker processes of the NCI screen; each that is killed is followed by a new one."""

import asyncio
import os
import random
import sys
import tempfile
from pathlib import Path
from typing import BinaryIO

__all__ = ["Fleet", "WorkerEnded"]

LEASE_SECONDS = 3
"""So long after the death of a worker others go on with its flows."""

GRACE_SECONDS = 1
SECONDS_TO_END = 2.0
"""How long a worker that was told to stop may take to release its flows; then it is killed."""


class WorkerEnded(Exception):
    """A worker has ended although nobody told it to."""


class Fleet:
    """Runs `size` workers on the database of `url`, each with up to `at_once` flows under way.

    They have sessions of their own, which a Ctrl-C of the terminal does not reach: this program
    stops them. `killed` counts those that `kill_every` has killed.
    """

    def __init__(self, url: str, *, size: int, at_once: int) -> None:
        self.killed = 0
        self._url = url
        self._size = size
        self._at_once = at_once
        self._running: set[asyncio.subprocess.Process] = set()
        self._struck: set[asyncio.subprocess.Process] = set()

    async def run(self) -> None:
        """Run the workers until the task is cancelled.

        Raises:
            WorkerEnded: in a group; a worker ended by itself.
        """
        with tempfile.TemporaryFile() as output:
            async with asyncio.TaskGroup() as group:
                for _ in range(self._size):
                    group.create_task(self._keep_one(output))

    async def kill_every(self, seconds: float) -> None:
        """Kill a worker at random each so many seconds, until the task is cancelled."""
        while True:
            await asyncio.sleep(seconds)
            if alive := [each for each in self._running if each.returncode is None]:
                process = random.choice(alive)  # noqa: S311  # no secret
                self._struck.add(process)
                process.kill()
                self.killed += 1

    async def _keep_one(self, output: BinaryIO) -> None:
        """Run a worker, and a new one whenever it was killed."""
        while True:
            process = await self._started(output)
            self._running.add(process)
            try:
                code = await process.wait()
            finally:
                self._running.discard(process)
                if process.returncode is None:
                    await _end(process)
            if process not in self._struck:
                output.seek(0)
                last = output.read().decode(errors="replace").strip().rpartition("\n")[2]
                raise WorkerEnded(f"a worker ended with exit code {code}: {last}")

    async def _started(self, output: BinaryIO) -> asyncio.subprocess.Process:
        program = [sys.executable, "-m", "chem_persistence", "worker", "nci.flow:SCREEN"]
        return await asyncio.create_subprocess_exec(
            *(*program, "--at-once", str(self._at_once)),
            *("--lease", str(LEASE_SECONDS), "--grace", str(GRACE_SECONDS)),
            cwd=Path(__file__).parents[1],
            env=os.environ | {"DATABASE_URL": self._url},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=output,
            start_new_session=True,
        )


async def _end(process: asyncio.subprocess.Process) -> None:
    process.terminate()
    try:
        await asyncio.wait_for(process.wait(), SECONDS_TO_END)
    except TimeoutError:
        process.kill()
        await process.wait()
