"""The server of the torture: one embedded PostgreSQL, its settings, processes and small disks."""

import asyncio
import os
import shutil
import signal
import subprocess
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from chem_persistence import embedded_postgres
from tests.support.servers.roles import as_user
from tests.torture.servers.server_log import ServerLog
from tests.torture.servers.small_disk import SmallDisk

__all__ = ["SETTINGS", "WRITER", "Server"]

WRITER = "writer"
DATABASE = "torture"
PATIENCE_SECONDS = 60.0
SETTINGS = {
    "deadlock_timeout": "200ms",
    "log_line_prefix": "%e ",
    "log_min_error_statement": "panic",
    "max_connections": "60",
    "max_slot_wal_keep_size": "1GB",
}
SMALL_WAL = {"wal_recycle": "off", "max_wal_size": "128MB", "min_wal_size": "32MB"}
"""Settings with which a new WAL file is soon needed: none is kept ready, old ones are removed."""

UNTROUBLED = {
    "default_transaction_read_only": "off",
    "default_transaction_isolation": "read committed",
    "statement_timeout": "0",
    "lock_timeout": "0",
    "deadlock_timeout": "1s",
}
"""The settings of the administrator's own sessions, during any fault."""

Connection = "asyncpg.Connection[asyncpg.Record]"


class Server:
    """Runs in `directory`; `url` is the administrator's, `writer_url` that of the writers."""

    def __init__(self, directory: Path, settings: Mapping[str, str] = SETTINGS) -> None:
        self._directory = directory
        self._settings = settings
        self._lease: AbstractAsyncContextManager[str] | None = None
        self._ending: int | None = None
        self._log = ServerLog(directory)
        self.disk = SmallDisk(directory / "disk")
        self.wal_disk = SmallDisk(directory / "wal")
        self.url = ""

    @property
    def writer_url(self) -> str:
        return as_user(self.url, WRITER, "unused")

    @property
    def data(self) -> Path:
        return self._directory / "cluster"

    @property
    def postmaster(self) -> int:
        return int((self.data / "postmaster.pid").read_text().split()[0])

    async def start(self) -> None:
        """Create the server (on the small disks, if any), and the writers' role and database."""
        self._lease = embedded_postgres(self._directory)
        root = await self._lease.__aenter__()
        await self.configure(self._settings, root)
        self.url = urlunsplit(urlsplit(root)._replace(path=f"/{DATABASE}"))
        if self.disk.mount(self.data):
            await self._execute(root, f"CREATE TABLESPACE small LOCATION '{self.disk.place}'")
        await self._execute(root, f"CREATE ROLE {WRITER} LOGIN")
        space = "TABLESPACE small" if self.disk.mounted else ""
        await self._execute(root, f"CREATE DATABASE {DATABASE} OWNER {WRITER} {space}")
        self.signal(signal.SIGINT)  # max_connections needs a restart
        await self._until_gone_or_answering()
        self._move_wal()
        await self.revive()
        if self.wal_disk.mounted:
            await self.configure(SMALL_WAL)

    def _move_wal(self) -> None:
        wal = self.data / "pg_wal"
        if self.wal_disk.mount(self.data):
            subprocess.run(["cp", "--archive", f"{wal}/.", str(self.wal_disk.place)], check=True)
            shutil.rmtree(wal)
            wal.symlink_to(self.wal_disk.place)

    async def revive(self) -> None:
        """Start the server if it has ended; otherwise wait until it has recovered and answers."""
        await self._until_gone_or_answering()
        lease = embedded_postgres(self._directory)
        await lease.__aenter__()
        if self._lease is not None:
            await self._lease.__aexit__(None, None, None)
        self._lease = lease
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not await self._answers():
                await asyncio.sleep(0.02)

    async def _until_gone_or_answering(self) -> None:
        """Wait until the process has ended or the server answers.

        A server that was told to end may still answer for a moment; only its process shows the end.
        """
        ending, self._ending = self._ending, None
        pid = self._recorded_postmaster() if ending is None else ending
        async with asyncio.timeout(PATIENCE_SECONDS):
            while (
                pid is not None
                and _lives(pid)
                and (ending is not None or not await self._answers())
            ):
                await asyncio.sleep(0.01)

    def _recorded_postmaster(self) -> int | None:
        with suppress(FileNotFoundError, IndexError, ValueError):
            return self.postmaster
        return None

    def signal(self, number: signal.Signals) -> None:
        """Send the postmaster a signal that ends it: KILL, QUIT (immediate), INT (fast)."""
        self._ending = self.postmaster
        os.kill(self._ending, number)

    async def calm(self) -> None:
        """Undo what a fault that failed half-way may have left."""
        for disk in (self.disk, self.wal_disk):
            if disk.mounted:
                disk.empty()
        await self.revive()
        await self.configure(dict.fromkeys(UNTROUBLED.keys() - SETTINGS.keys()))
        await self._execute(self.url, f"ALTER ROLE {WRITER} CONNECTION LIMIT -1")

    async def stop(self) -> None:
        if self._lease is not None:
            await self._lease.__aexit__(None, None, None)
        self.disk.unmount()
        self.wal_disk.unmount()

    @asynccontextmanager
    async def session(self) -> AsyncIterator[Any]:
        """Connect as the administrator."""
        connection = await asyncpg.connect(
            self.url, server_settings=UNTROUBLED, timeout=PATIENCE_SECONDS
        )
        try:
            yield connection
        finally:
            connection.terminate()

    async def configure(self, settings: Mapping[str, str | None], url: str | None = None) -> None:
        """Change settings for all sessions; None resets a setting."""
        for name, value in settings.items():
            what = f"RESET {name}" if value is None else f"SET {name} = '{value}'"
            await self._execute(url or self.url, f"ALTER SYSTEM {what}")
        await self._execute(url or self.url, "SELECT pg_reload_conf()")

    async def backends(self, where: str = "true") -> list[int]:
        """Return the process ids of the writers' sessions."""
        async with self.session() as session:
            query = (
                "SELECT pid FROM pg_stat_activity "
                f"WHERE usename = '{WRITER}' AND {where} ORDER BY pid"
            )
            return [row["pid"] for row in await session.fetch(query)]

    def refusals(self) -> Counter[str]:
        """Count the SQLSTATEs of the errors that the server has logged so far."""
        return self._log.refusals()

    async def _execute(self, url: str, statement: str) -> None:
        connection = await asyncpg.connect(
            url, server_settings=UNTROUBLED, timeout=PATIENCE_SECONDS
        )
        try:
            await connection.execute(statement)
        finally:
            connection.terminate()

    async def _answers(self) -> bool:
        with suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            await self._execute(self.url, "SELECT 1")
            return True
        return False


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
