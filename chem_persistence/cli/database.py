"""The database that a command works on, and a pool of connections to it."""

import os
import shlex
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from chem_persistence.cli.options import Target
from chem_persistence.errors import InvalidArgument, MigrationError
from chem_persistence.postgres.admin.doctor.commands import Commands
from chem_persistence.postgres.connection.pool import PoolProvider, open_pool
from chem_persistence.postgres.connection.session import Session
from chem_persistence.postgres.schema.migrations import known_migrations, pending_migrations

__all__ = ["commands_about", "default_data", "open_database", "server_url"]


def default_data() -> Path:
    """Return the directory of the embedded server's data if no option names one.

    It is below the user's own data directory (the XDG Base Directory Specification, on Linux): in
    the working directory, which may be /tmp, another user could have made it.
    """
    import platformdirs  # noqa: PLC0415 - most commands are given a URL

    return platformdirs.user_data_path("chem-persistence", appauthor=False) / "demo"


def _environment_url() -> str | None:
    """Return the URL of DATABASE_URL, or else of the file .env."""
    if url := os.environ.get("DATABASE_URL"):
        return url
    from dotenv import dotenv_values  # noqa: PLC0415 - most commands are given a URL

    return dotenv_values(Path(".env")).get("DATABASE_URL")


def commands_about(target: Target) -> Commands:
    """Return the commands for this database; its URL may hold a password and is not repeated."""
    if target.database_url is not None:
        return Commands(target.schema, "--database-url URL")
    is_elsewhere = _environment_url() is not None
    if target.data is None and is_elsewhere:
        return Commands(target.schema)
    is_named = target.data is not None and (is_elsewhere or target.data != default_data())
    data = f"--data {shlex.quote(str(target.data))}" if is_named else ""
    return Commands(target.schema, data, data)  # the user who runs it is its superuser


@asynccontextmanager
async def server_url(target: Target, *, create: bool = False) -> AsyncIterator[str]:
    """Yield the URL of the options, DATABASE_URL or .env, else of an embedded server that it runs.

    Raises:
        InvalidArgument: both a URL and data are given, or the data do not exist and `create` is
            False.
    """
    if target.database_url is not None and target.data is not None:
        raise InvalidArgument("--data", "cannot be combined with --database-url: give one of them")
    url = target.database_url
    if url is None and target.data is None:
        url = _environment_url()
    if url is not None:
        yield url
        return
    data = target.data or default_data()
    if not create and not (data / "cluster").is_dir():
        if target.data is not None:
            raise InvalidArgument("--data", f"{data} has no embedded server's data")
        reason = (
            f"no URL is given, and {data} has no embedded server's data: give --database-url, set "
            "DATABASE_URL, or run `chem-persistence demo`, which creates some"
        )
        raise InvalidArgument("database", reason)
    # imported only here: it is of no use to a command that is given a URL
    from chem_persistence.postgres.embedded.server import embedded_postgres  # noqa: PLC0415

    async with embedded_postgres(data) as own:
        yield own


@asynccontextmanager
async def open_database(target: Target, *, connections: int = 2) -> AsyncIterator[PoolProvider]:
    """Yield connections to a database after checking that its schema is this library's.

    Raises:
        MigrationError: the schema is behind the library or ahead of it.
        InvalidArgument: as `server_url`.
    """
    async with (
        server_url(target) as url,
        await open_pool(url, max_size=connections, schema=target.schema) as pool,
    ):
        provider = PoolProvider(pool)
        await _check_schema(provider, commands_about(target))
        yield provider


async def _check_schema(provider: PoolProvider, commands: Commands) -> None:
    known, schema = known_migrations(), commands.schema
    pending = await Session(provider).run(
        lambda connection: pending_migrations(connection, schema, known)
    )
    if pending:
        at = len(known) - len(pending)
        found = (
            f"is at migration {at}, this library needs {len(known)}"
            if at
            else "has no tables of this library"
        )
        raise MigrationError(f"schema {schema!r} {found}: {commands.migrate()}")
