"""PostgreSQL servers of a test's own, made of PostgreSQL's programs: copied, promoted, rewound.

Clients find them at a `Front`, an address that the test points to one server after another, as a
failover does.
"""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import msgspec

from tests.support.made_clusters import embedded_copy, folder, give_data

__all__ = ["Account", "Cluster", "Front", "Programs", "installed_programs", "programs_of_the_wheel"]

PORT = 5432
PATIENCE_SECONDS = 60.0
SETTINGS = f"""
port = {PORT}
listen_addresses = ''
wal_log_hints = on
wal_keep_size = 256MB
max_wal_senders = 5
fsync = off
autovacuum = off
bgwriter_lru_maxpages = 0
wal_retrieve_retry_interval = 100ms
"""
"""No background process writes WAL out before a test says so."""


class Account(msgspec.Struct, frozen=True):
    """The user that servers run as, if the tests are root."""

    uid: int
    gid: int


class Programs(msgspec.Struct, frozen=True):
    """The programs of one version of PostgreSQL."""

    version: int
    directory: Path
    account: Account | None


def installed_programs(version: int) -> Path | None:
    """Return the folder of an installed version, as Debian has it."""
    directory = Path(f"/usr/lib/postgresql/{version}/bin")
    return directory if (directory / "initdb").exists() else None


async def programs_of_the_wheel() -> Programs:
    """Return the programs of the embedded server, which make themselves readable when it runs."""
    async with embedded_copy() as url:
        connection = await asyncpg.connect(url)
        directory = await connection.fetchval("SELECT setting FROM pg_config WHERE name = 'BINDIR'")
        data = await connection.fetchval("SHOW data_directory")
        version = connection.get_server_version().major
        await connection.close()
        owner = Path(data).stat()
    account = Account(owner.st_uid, owner.st_gid) if os.geteuid() == 0 else None
    return Programs(version, Path(directory), account)


class Cluster:
    """One server, in a folder whose path is short enough for a socket."""

    def __init__(self, directory: Path, programs: Programs) -> None:
        self.directory = directory
        self.programs = programs
        self.data = directory / "data"
        if not directory.exists():
            directory.mkdir(mode=0o755)
        if programs.account is not None:
            os.chown(directory, programs.account.uid, programs.account.gid)

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://postgres@/{database}?host={self.directory}&port={PORT}"

    async def create(self, **settings: str) -> None:
        """Make an empty one, and start it."""
        options = ("--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C")
        made = folder() / f"bare {self.programs.version}"
        if made.exists():
            account = self.programs.account
            owner = None if account is None else (account.uid, account.gid)
            await give_data(made, self.data, owner)
        else:
            await self.run("initdb", "-D", self.data, *options, "--no-sync")
            await give_data(self.data, made)
        self.configure(SETTINGS + "".join(f"{k} = '{v}'\n" for k, v in settings.items()))
        await self.start()

    def configure(self, settings: str) -> None:
        """Add settings for the next start."""
        with (self.data / "postgresql.conf").open("a", encoding="utf-8") as file:
            file.write(settings)

    async def copy(self, directory: Path, *options: str) -> "Cluster":
        """Make a base backup, with the WAL of the time that it takes."""
        copied = Cluster(directory, self.programs)
        await self.run("pg_basebackup", "-d", self.url(), "-D", copied.data, *BACKUP, *options)
        return copied

    async def start(self) -> None:
        log = self.directory / "log"
        socket = f"--unix_socket_directories={self.directory}"
        await self.run("pg_ctl", "-D", self.data, "-l", log, "-o", socket, "--wait", "start")

    async def stop(self) -> None:
        """End it as an operator does: with a last checkpoint, which a standby still receives."""
        await self.run("pg_ctl", "-D", self.data, "--wait", "--mode=fast", "stop")

    async def kill(self) -> None:
        """End it at once, if it runs, and forget it."""
        if (self.data / "postmaster.pid").exists():
            await self.run("pg_ctl", "-D", self.data, "--wait", "--mode=immediate", "stop")
        shutil.rmtree(self.directory)

    async def promote(self) -> None:
        await self.run("pg_ctl", "-D", self.data, "--wait", "promote")

    @asynccontextmanager
    async def session(self, database: str = "postgres") -> AsyncIterator[Any]:
        connection = await asyncpg.connect(self.url(database))
        try:
            yield connection
        finally:
            connection.terminate()

    async def execute(self, statement: str, database: str = "postgres") -> None:
        async with self.session(database) as session:
            await session.execute(statement)

    async def until(self, condition: str, *arguments: object) -> None:
        """Wait until the server answers, and a query's only value is true."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                try:
                    async with self.session() as session:
                        while not await session.fetchval(condition, *arguments):
                            await asyncio.sleep(0.02)
                        return
                except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                    await asyncio.sleep(0.02)

    async def caught_up_by(self, standby: "Cluster") -> None:
        """Wait until a standby has replayed all that this one has."""
        async with self.session() as session:
            end = await session.fetchval("SELECT pg_current_wal_flush_lsn()::text")
        await standby.until("SELECT pg_last_wal_replay_lsn() >= $1::text::pg_lsn", end)

    async def run(
        self, program: str, *arguments: object, variables: Mapping[str, str] | None = None
    ) -> None:
        account = self.programs.account
        output = (self.directory / "programs").open("ab")
        try:
            process = await asyncio.create_subprocess_exec(
                self.programs.directory / program,
                *map(str, arguments),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={"LC_ALL": "C", "PATH": os.environ["PATH"]} | dict(variables or {}),
                cwd=self.directory,
                user=None if account is None else account.uid,
                group=None if account is None else account.gid,
                extra_groups=None if account is None else [],
            )
            code = await process.wait()
        finally:
            output.close()
        said = (self.directory / "programs").read_text(encoding="utf-8")
        assert code == 0, f"{program}: {said[-2_000:]}"


BACKUP = ("--wal-method=stream", "--checkpoint=fast", "--no-sync")


class Front:
    """The address that clients know; it leads to one server at a time."""

    def __init__(self, directory: Path) -> None:
        self._link = directory / "front"

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://postgres@/{database}?host={self._link}&port={PORT}"

    def lead_to(self, cluster: Cluster) -> None:
        """Lead new connections to another server; those to a server that ended are broken."""
        new = self._link.with_name("front.new")
        new.symlink_to(cluster.directory)
        new.replace(self._link)
