"""Which database a command works on, and a pool on it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
from dotenv import dotenv_values

from chem_persistence.errors import InvalidArgument, MigrationError
from chem_persistence.postgres.embedded import embedded_postgres
from chem_persistence.postgres.migrations import known_migrations, pending_migrations
from chem_persistence.postgres.pool import PoolProvider, open_pool
from chem_persistence.postgres.session import call

__all__ = ["DEFAULT_DATA", "Place", "open_database", "server_url"]

DEFAULT_DATA = Path("data", "demo")
"""Where `make demo` keeps its embedded server."""


class Place(msgspec.Struct, frozen=True):
    """What the options say: a URL, or None; the embedded server's data; the schema of the tables."""

    database_url: str | None
    data: Path
    schema: str


@asynccontextmanager
async def server_url(place: Place, *, create: bool = False) -> AsyncIterator[str]:
    """Give the URL of the options, of DATABASE_URL (which is one of them) or of .env, else run the embedded server.

    Raises:
        InvalidArgument: no URL is named, and there is no embedded server's data, unless it may be created.
    """
    url = place.database_url
    if url is None:
        url = dotenv_values(Path(".env")).get("DATABASE_URL")
    if url is not None:
        yield url
        return
    if not create and not (place.data / "cluster").is_dir():
        reason = (
            f"no URL is given, and {place.data} has no embedded server's data: give --database-url, set DATABASE_URL, "
            "or make some: chem-persistence demo"
        )
        raise InvalidArgument("database", reason)
    async with embedded_postgres(place.data) as own:
        yield own


@asynccontextmanager
async def open_database(place: Place, *, connections: int = 2) -> AsyncIterator[PoolProvider]:
    """Give connections to a database whose schema is this library's, without changing it.

    Raises:
        MigrationError: the schema is behind the library or ahead of it.
        InvalidArgument: as `server_url`.
    """
    async with (
        server_url(place) as url,
        await open_pool(url, max_size=connections, schema=place.schema) as pool,
    ):
        provider = PoolProvider(pool)
        await _check_schema(provider, place.schema)
        yield provider


async def _check_schema(provider: PoolProvider, schema: str) -> None:
    known = known_migrations()
    pending = await call(provider, lambda connection: pending_migrations(connection, schema, known))
    if pending:
        at = len(known) - len(pending)
        raise MigrationError(
            f"schema {schema!r} is at migration {at}, this library needs {len(known)}: chem-persistence migrate"
        )
