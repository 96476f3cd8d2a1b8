"""Pools of connections to a database whose schema is up to date."""

import os
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeAlias
from urllib.parse import unquote, urlsplit

import asyncpg

from chem_persistence.errors import (
    InvalidArgument,
    InvalidDatabaseUrl,
    MigrationError,
    StoreUnavailable,
)
from chem_persistence.postgres.connection.failures import ConnectionLost
from chem_persistence.postgres.connection.jsonb import pass_jsonb_as_bytes
from chem_persistence.postgres.connection.ports import Connection
from chem_persistence.postgres.connection.session import with_retries
from chem_persistence.postgres.connection.tls_files import check_tls_files
from chem_persistence.postgres.connection.url import DatabaseUrl, parse_database_url
from chem_persistence.postgres.schema.migrations import migrate
from chem_persistence.postgres.schema.statements import statement
from chem_persistence.telemetry.gauges import watch_pool
from chem_persistence.telemetry.hooks import watched_borrow

__all__ = ["PoolProvider", "build_dev_pool_from_env", "build_pool", "open_pool"]

READ_CURRENT_SCHEMA = statement("migrations/read_current_schema")


Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"

_LONGEST_NAME = 63
"""Bytes of a name that PostgreSQL keeps (manual, section 4.1.1)."""


class PoolProvider:
    """Lends a pool's connections.

    A caller waits at most `acquire_timeout` seconds for one before `StoreUnavailable`.
    """

    def __init__(self, pool: Pool, *, acquire_timeout: float = 30.0) -> None:
        self._pool = pool
        self._acquire_timeout = acquire_timeout
        self._name = watch_pool(self, pool)

    @asynccontextmanager
    async def acquire(self) -> AsyncIterator[Connection]:
        """Lend a connection for the length of a block.

        One that breaks as it is given back is thrown away: what was done on it stands, and what the block raised,
        a cancellation above all, is not hidden by it.
        """
        try:
            connection = await watched_borrow(
                self._pool.acquire(timeout=self._acquire_timeout), self._name
            )
        except TimeoutError as error:
            raise StoreUnavailable(f"no connection within {self._acquire_timeout} s") from error
        try:
            yield connection
        finally:
            with suppress(
                asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError
            ):
                await self._pool.release(connection)


async def build_pool(
    url: str,
    *,
    min_size: int = 0,
    max_size: int = 10,
    schema: str = "public",
    transaction_pooling: bool = False,
) -> Pool:
    """Make a pool on a database, after bringing its schema up to date.

    `min_size` connections are kept open, though unused; up to `max_size` are opened as they are needed.
    `url` is what libpq accepts (PostgreSQL manual, section 34.1.1.2); the tables live in `schema`, which is created
    when it is missing. Close the pool with `await pool.close()`, or use it as an asynchronous context manager.
    `transaction_pooling` is for a URL that leads to PgBouncer: no statement is prepared beyond a transaction, and the
    search path is the role's own, which must begin with `schema`.

    Raises:
        InvalidDatabaseUrl: the URL is malformed, asks for a protection that the driver cannot give, or names a TLS
            file that cannot be read.
        InvalidArgument: the schema's name or the sizes are impossible.
        UnsupportedServer: the server is older than PostgreSQL 15.
        MigrationError: the schema is newer than this library, or was changed, or is not where the search path leads.
        StoreUnavailable: there is no server, or it does not take connections.
        StoreError: the server refuses: the password, the database, a right.
    """
    _check_sizes(min_size, max_size)
    target = _checked_target(url)
    options = _connect_options(target, schema, transaction_pooling=transaction_pooling)
    await with_retries(lambda: _bring_up_to_date(target, options, schema))
    return await _open(target, options, min_size, max_size)


async def open_pool(
    url: str, *, min_size: int = 0, max_size: int = 10, schema: str = "public"
) -> Pool:
    """Make a pool on a database as it is: `build_pool` without the migrations, for who must not change the schema.

    Raises:
        InvalidDatabaseUrl, InvalidArgument: as `build_pool`.
        StoreUnavailable, StoreError: as `build_pool`, but without connections (`min_size` 0) only when one is used.
    """
    _check_sizes(min_size, max_size)
    target = _checked_target(url)
    options = _connect_options(target, schema, transaction_pooling=False)
    return await _open(target, options, min_size, max_size)


async def build_dev_pool_from_env(
    *,
    min_size: int = 0,
    max_size: int = 10,
    schema: str = "public",
    transaction_pooling: bool = False,
) -> Pool:
    """Make a pool on the database that the environment variable DATABASE_URL names; see `build_pool`.

    Raises:
        InvalidDatabaseUrl: DATABASE_URL is not set; and whatever `build_pool` raises.
    """
    url = os.environ.get("DATABASE_URL")
    if not url:
        raise InvalidDatabaseUrl(
            "DATABASE_URL is not set; embedded_postgres() gives a URL without a server"
        )
    return await build_pool(
        url,
        min_size=min_size,
        max_size=max_size,
        schema=schema,
        transaction_pooling=transaction_pooling,
    )


def _check_sizes(min_size: int, max_size: int) -> None:
    if not 0 <= min_size <= max_size or max_size < 1:
        raise InvalidArgument(
            "min_size", f"sizes must be 0 <= {min_size} <= {max_size} and 1 <= {max_size}"
        )


def _checked_target(url: str) -> DatabaseUrl:
    target = parse_database_url(url, os.environ)
    check_tls_files(target.dsn)
    return target


async def _open(
    target: DatabaseUrl, options: Mapping[str, Any], min_size: int, max_size: int
) -> Pool:
    async def opened() -> Pool:
        return await asyncpg.create_pool(
            target.dsn,
            min_size=min_size,
            max_size=max_size,
            connect=_connect,
            init=pass_jsonb_as_bytes,
            **options,
        )

    return await with_retries(opened)


async def _connect(*arguments: Any, **options: Any) -> "asyncpg.Connection[asyncpg.Record]":
    try:
        return await asyncpg.connect(*arguments, **options)
    except UnicodeError as error:
        raise InvalidDatabaseUrl(
            "has a host that no host can be called (RFC 1035, section 2.3.4)"
        ) from error
    except socket.gaierror as error:
        # It names no host, and of several hosts the driver raises only the last one's error.
        raise socket.gaierror(error.errno, f"{error.strerror}: {_hosts(arguments[0])}") from error


def _hosts(dsn: str) -> str:
    """Name the hosts of a `DatabaseUrl.dsn`, which has user and password elsewhere."""
    places = urlsplit(dsn).netloc.split(",")
    return ", ".join(unquote(place.rpartition(":")[0]) for place in places) or "localhost"


async def _bring_up_to_date(target: DatabaseUrl, options: Mapping[str, Any], schema: str) -> None:
    connection = await _connect(target.dsn, **options)
    try:
        if "search_path" not in options["server_settings"]:
            await _check_search_path(connection, schema)
        await migrate(connection, schema)
    except asyncpg.InterfaceError as error:
        if connection.is_closed():
            raise ConnectionLost from error
        raise
    finally:
        await connection.close()


async def _check_search_path(connection: "asyncpg.Connection[asyncpg.Record]", schema: str) -> None:
    current = await connection.fetchval(READ_CURRENT_SCHEMA)
    if current != schema:
        raise MigrationError(
            f"the search path begins with schema {current!r}, not with {schema!r}: "
            "migrate without the pooler, then ALTER ROLE ... SET search_path for whoever logs in"
        )


def _connect_options(
    target: DatabaseUrl, schema: str, *, transaction_pooling: bool
) -> Mapping[str, Any]:
    search_path = _quoted_name(schema)
    options: dict[str, Any] = {"server_settings": dict(target.server_settings)}
    if (
        transaction_pooling
    ):  # the pooler refuses to set a search path, and mixes up prepared statements
        options["statement_cache_size"] = 0
    else:
        options["server_settings"]["search_path"] = search_path
    if target.connect_timeout is not None:
        options["timeout"] = target.connect_timeout
    return options


def _quoted_name(name: str) -> str:
    """Quote a name for a setting that holds names (PostgreSQL manual, section 4.1.1).

    Raises:
        InvalidArgument: it is empty, no text, too long to be kept whole, holds U+0000, or means something to the server.
    """
    try:
        size = len(name.encode())
    except UnicodeEncodeError as error:
        raise InvalidArgument("schema", "has a lone surrogate, which is no character") from error
    if not 0 < size <= _LONGEST_NAME or "\0" in name:
        raise InvalidArgument("schema", f"must have 1 to {_LONGEST_NAME} bytes and no U+0000")
    if name.startswith("pg_") or name == "information_schema":
        raise InvalidArgument(
            "schema", "names that begin with pg_, and information_schema, are the server's"
        )
    if name == "$user":  # also in quotes, a search path means the role's name by it
        raise InvalidArgument("schema", "$user stands for the name of whoever connects")
    return '"' + name.replace('"', '""') + '"'
