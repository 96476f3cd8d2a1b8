"""A Citus cluster under torture: a coordinator and two workers, started and killed by a program.

`PROGRAM start` starts new nodes, and prints the URL of a superuser on the coordinator as its last
line; `PROGRAM kill NODE` ends a node at once, `PROGRAM up NODE` starts it again; `PROGRAM stop`
stops all. The nodes are c, the coordinator, and w1 and w2.
"""

import asyncio
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import asyncpg

from chem_persistence import PoolProvider, build_pool
from chem_persistence.postgres.admin.distribute import distribute_log
from tests.torture.servers.server import WRITER, Server
from tests.torture.servers.standby import Standby

__all__ = ["COORDINATOR", "WORKERS", "Cluster", "NoStandby"]

COORDINATOR = "c"
WORKERS = ("w1", "w2")
DIRECTORIES = "SELECT result FROM run_command_on_workers('SHOW data_directory') ORDER BY nodeport"
COMMAND_SECONDS = 120.0
READY_SECONDS = 60.0


class Cluster(Server):
    """The cluster of `program`; its log is distributed when it has started."""

    def __init__(self, program: str, directory: Path) -> None:
        super().__init__(directory)
        self._program = program
        self._directories: dict[str, Path] = {}
        self.down: set[str] = set()
        """The nodes that are killed, and not started again."""

    async def start(self) -> None:
        """Start the nodes, with the writers' role, and distribute the log."""
        self.url = (await self._run("start")).splitlines()[-1]
        await self._execute(self.url, f"CREATE ROLE {WRITER} LOGIN SUPERUSER")
        async with (
            await build_pool(self.url, max_size=1) as pool,
            PoolProvider(pool).acquire() as connection,
        ):
            await distribute_log(connection)
        await self._find_directories()

    async def _find_directories(self) -> None:
        """Ask where the nodes have their data, which is the folder that their processes run in."""
        async with self.session() as session:
            own = await session.fetchval("SHOW data_directory")
            others = await session.fetch(DIRECTORIES)
        found = [own, *(row["result"] for row in others)]
        self._directories = dict(zip((COORDINATOR, *WORKERS), map(Path, found), strict=True))

    async def kill(self, node: str) -> None:
        """Kill all processes of a node, those as well that it has started meanwhile.

        A session may wait for ever for a lock of one that was killed, and hold the node's memory.
        """
        self.down.add(node)
        await self._run("kill", node)
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if (process / "cwd").readlink() == self._directories[node]:
                    os.kill(int(process.name), signal.SIGKILL)

    async def revive(self) -> None:
        """Start the nodes that were killed, and wait until the coordinator answers."""
        for node in sorted(self.down):
            await self._up(node)
        self.down.clear()
        async with asyncio.timeout(READY_SECONDS):
            while not await self._answers():
                await asyncio.sleep(0.05)

    async def _up(self, node: str) -> None:
        """Start a node; it may refuse as long as a process of its last life is not gone."""
        deadline = asyncio.get_running_loop().time() + READY_SECONDS
        while True:
            try:
                await self._run("up", node)
            except OSError:
                if asyncio.get_running_loop().time() > deadline:
                    raise
                await asyncio.sleep(0.5)
            else:
                return

    async def calm(self) -> None:
        await self.revive()

    async def stop(self) -> None:
        await self._run("stop")

    @asynccontextmanager
    async def session(self) -> AsyncIterator[Any]:
        """Connect to the coordinator as the administrator."""
        connection = await asyncpg.connect(self.url, timeout=READY_SECONDS)
        try:
            yield connection
        finally:
            connection.terminate()

    def refusals(self) -> Counter[str]:
        """Return no counts: no fault of a cluster is felt by an SQLSTATE of its own."""
        return Counter()

    async def _run(self, *arguments: str) -> str:
        process = await asyncio.create_subprocess_exec(
            self._program, *arguments, stdout=asyncio.subprocess.PIPE
        )
        async with asyncio.timeout(COMMAND_SECONDS):
            output, _ = await process.communicate()
        if process.returncode != 0:
            raise OSError(f"{self._program} {' '.join(arguments)} ended with {process.returncode}")
        return output.decode()


class NoStandby(Standby):
    """What stands for the standby where there is none."""

    async def start(self, server: Server) -> None:
        """Start nothing."""

    async def stop(self) -> None:
        """Stop nothing."""

    async def catches_up(self, server: Server) -> bool:  # noqa: ARG002  # there is nothing to have
        """Return that nothing is missing."""
        return True

    def refusals(self) -> Counter[str]:
        return Counter()
