"""A streaming standby of the torture's server: a real read-only server that may lag behind."""

import asyncio
from collections import Counter
from contextlib import AbstractAsyncContextManager, suppress
from pathlib import Path

import asyncpg

from chem_persistence import embedded_postgres
from tests.support.servers.standby import base_backup
from tests.torture.servers.server import Server
from tests.torture.servers.server_log import ServerLog

__all__ = ["Standby"]

SLOT = "standby"
PATIENCE_SECONDS = 60.0
REPLAYED = "SELECT pg_last_wal_replay_lsn() >= $1::text::pg_lsn"
SETTINGS = "wal_retrieve_retry_interval = '100ms'\nrecovery_min_apply_delay = '200ms'\n"
"""How soon it reconnects to a server that was killed, and its least lag."""


class Standby:
    """Runs in `directory`; a replication slot keeps the WAL while either server is down."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._lease: AbstractAsyncContextManager[str] | None = None
        self._log = ServerLog(directory)
        self.url = ""
        """Its URL; only the address is used."""

    async def start(self, server: Server) -> None:
        """Copy the server and follow it."""
        await self._copy(server)
        with (self._directory / "cluster" / "postgresql.auto.conf").open("a") as settings:
            settings.write(SETTINGS)
        lease = embedded_postgres(self._directory)
        self.url = await lease.__aenter__()
        self._lease = lease

    async def stop(self) -> None:
        if self._lease is not None:
            await self._lease.__aexit__(None, None, None)

    async def catches_up(self, server: Server) -> bool:
        """Wait until the standby has all data of the server; return False if it took too long."""
        async with server.session() as session:
            wanted = await session.fetchval("SELECT pg_current_wal_flush_lsn()::text")
        with suppress(TimeoutError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            connection = await asyncpg.connect(self.url)
            try:
                async with asyncio.timeout(PATIENCE_SECONDS):
                    while not await connection.fetchval(REPLAYED, wanted):
                        await asyncio.sleep(0.05)
                return True
            finally:
                connection.terminate()
        return False

    def refusals(self) -> Counter[str]:
        """Count the SQLSTATEs of the errors that the standby has logged so far."""
        return self._log.refusals()

    async def _copy(self, server: Server) -> None:
        self._directory.mkdir(mode=0o700)
        disk = f"--tablespace-mapping={server.disk.place}={self._directory / 'disk'}"
        await base_backup(server.url, self._directory, disk, "--create-slot", f"--slot={SLOT}")
