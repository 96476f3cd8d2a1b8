"""Connection pools: opened on a database, with its schema brought up to date first."""

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
from chem_persistence.postgres.schema.distribution import SESSION_SETTINGS, check_node, has_citus
from chem_persistence.postgres.schema.migrations import migrate
from chem_persistence.postgres.schema.statements import statement
from chem_persistence.telemetry.gauges import watch_pool
from chem_persistence.telemetry.hooks import watched_borrow

__all__ = ["PoolProvider", "build_dev_pool_from_env", "build_pool", "open_pool"]

READ_CURRENT_SCHEMA = statement("migrations/read_current_schema")

Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"

_LONGEST_NAME = 63
"""The length at which PostgreSQL truncates a name, in bytes (manual, section 4.1.1)."""


class PoolProvider:
    """A provider that lends a pool's connections.

    A caller waits at most `acquire_timeout` seconds for one; then `StoreUnavailable` is raised.
    """

    def __init__(self, pool: Pool, *, acquire_timeout: float = 30.0) -> None:
        self._pool = pool
        self._acquire_timeout = acquire_timeout
        self._name = watch_pool(self, pool)

    @asynccontextmanager
    async def acquire(self) -> AsyncIterator[Connection]:
        """Lend a connection for the length of a block.

        A connection that breaks when it is returned is discarded silently: the work done on it
        stands, and the block's own exception, such as a cancellation, is not replaced.

        Raises:
            StoreUnavailable: no connection was free within `acquire_timeout` seconds.
        """
        try:
            connection = await watched_borrow(
                self._pool.acquire(timeout=self._acquire_timeout), self._name
            )
        except TimeoutError as error:
            raise StoreUnavailable(
                f"no connection of the pool was free within {self._acquire_timeout} s; "
                "make the pool larger, or hold its connections for less time"
            ) from error
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
    """Open a pool on a database, after bringing its schema up to date.

    `min_size` connections stay open even if unused; up to `max_size` are opened on demand. `url` is
    a libpq URL (PostgreSQL manual, section 34.1.1.2); the tables are in `schema`, which is created
    if it is missing. Close the pool with `await pool.close()`, or use it as an asynchronous context
    manager. `transaction_pooling` is for a URL of PgBouncer: no prepared statement outlives its
    transaction, and the search path is the role's own, which must begin with `schema`. Of a Citus
    cluster, `url` names the coordinator; sessions get the settings that Citus needs for this.

    Raises:
        InvalidDatabaseUrl: the URL is malformed, asks for a protection that the driver does not
            offer, or names a TLS file that cannot be read.
        InvalidArgument: the schema's name or the sizes are invalid.
        UnsupportedServer: the server is older than PostgreSQL 15.
        MigrationError: the schema is newer than this library, was changed, or is not the first
            one of the search path; or the server is a worker node of a Citus cluster.
        StoreUnavailable: the server cannot be reached, or accepts no connections.
        StoreError: the server refused the password, the database, or a statement for lack of a
            privilege.
    """
    _check_sizes(min_size, max_size)
    target = _checked_target(url)
    options = _connect_options(target, schema, transaction_pooling=transaction_pooling)
    citus = await with_retries(lambda: _bring_up_to_date(target, options, schema))
    connector = _Connector(has_citus=citus and not transaction_pooling)
    return await _open(target, options, connector, min_size, max_size)


async def open_pool(
    url: str, *, min_size: int = 0, max_size: int = 10, schema: str = "public"
) -> Pool:
    """Open a pool as `build_pool` does, but leave the schema as it is.

    Raises:
        InvalidDatabaseUrl, InvalidArgument: as `build_pool`.
        StoreUnavailable, StoreError: as `build_pool`; with a `min_size` of 0 only at the first use.
    """
    _check_sizes(min_size, max_size)
    target = _checked_target(url)
    options = _connect_options(target, schema, transaction_pooling=False)
    return await _open(target, options, _Connector(), min_size, max_size)


async def build_dev_pool_from_env(
    *,
    min_size: int = 0,
    max_size: int = 10,
    schema: str = "public",
    transaction_pooling: bool = False,
) -> Pool:
    """Open a pool on the database of the environment variable DATABASE_URL; see `build_pool`.

    Raises:
        InvalidDatabaseUrl: DATABASE_URL is not set.
        ChemPersistenceError: as `build_pool` raises.
    """
    url = os.environ.get("DATABASE_URL")
    if not url:
        raise InvalidDatabaseUrl(
            "DATABASE_URL is not set; embedded_postgres() runs a server and returns its URL"
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
            "min_size",
            "0 <= min_size <= max_size and 1 <= max_size must hold, "
            f"but min_size is {min_size} and max_size is {max_size}",
        )


def _checked_target(url: str) -> DatabaseUrl:
    target = parse_database_url(url, os.environ)
    check_tls_files(target.dsn)
    return target


async def _open(
    target: DatabaseUrl,
    options: Mapping[str, Any],
    connector: "_Connector",
    min_size: int,
    max_size: int,
) -> Pool:
    async def opened() -> Pool:
        return await asyncpg.create_pool(
            target.dsn,
            min_size=min_size,
            max_size=max_size,
            connect=connector.connect,
            init=pass_jsonb_as_bytes,
            **options,
        )

    return await with_retries(opened)


class _Connector:
    """Opens the connections of a pool, which have further settings if the database has Citus.

    A session keeps only settings that it began with: the pool resets all others. So the first
    connection finds out, unless `has_citus` says it, and is opened anew if it lacks them.
    """

    def __init__(self, *, has_citus: bool | None = None) -> None:
        self._has_citus = has_citus

    async def connect(
        self, *arguments: Any, **options: Any
    ) -> "asyncpg.Connection[asyncpg.Record]":
        """Connect as `asyncpg.connect` does."""
        if self._has_citus is None:
            connection = await _connect(*arguments, **options)
            try:
                self._has_citus = await has_citus(connection)
            except BaseException:
                connection.terminate()
                raise
            if not self._has_citus:
                return connection
            await connection.close()
        if self._has_citus:
            settings = {**options.get("server_settings", {}), **SESSION_SETTINGS}
            options = {**options, "server_settings": settings}
        return await _connect(*arguments, **options)


async def _connect(*arguments: Any, **options: Any) -> "asyncpg.Connection[asyncpg.Record]":
    try:
        return await asyncpg.connect(*arguments, **options)
    except UnicodeError as error:
        raise InvalidDatabaseUrl(
            "has a host that is not a valid host name (RFC 1035, section 2.3.4)"
        ) from error
    except socket.gaierror as error:
        # The error does not name the host; of several hosts the driver raises only the last error.
        raise socket.gaierror(error.errno, f"{error.strerror}: {_hosts(arguments[0])}") from error


def _hosts(dsn: str) -> str:
    """Return the hosts of a `DatabaseUrl.dsn`, whose network location has no user or password."""
    hosts = urlsplit(dsn).netloc.split(",")
    return ", ".join(unquote(host.rpartition(":")[0]) for host in hosts) or "localhost"


async def _bring_up_to_date(target: DatabaseUrl, options: Mapping[str, Any], schema: str) -> bool:
    """Migrate the schema, and return whether the database has Citus."""
    connection = await _connect(target.dsn, **options)
    try:
        if "search_path" not in options["server_settings"]:
            await _check_search_path(connection, schema)
        citus = await check_node(connection)
        await migrate(connection, schema)
    except asyncpg.InterfaceError as error:
        if connection.is_closed():
            raise ConnectionLost from error
        raise
    else:
        return citus
    finally:
        await connection.close()


async def _check_search_path(connection: "asyncpg.Connection[asyncpg.Record]", schema: str) -> None:
    current = await connection.fetchval(READ_CURRENT_SCHEMA)
    if current != schema:
        raise MigrationError(
            f"the search path begins with schema {current!r}, not with {schema!r}: "
            "migrate without the pooler, then run ALTER ROLE ... SET search_path for the login role"
        )


def _connect_options(
    target: DatabaseUrl, schema: str, *, transaction_pooling: bool
) -> Mapping[str, Any]:
    search_path = _quoted_name(schema)
    options: dict[str, Any] = {"server_settings": dict(target.server_settings)}
    if transaction_pooling:
        # The pooler rejects search_path, and sends a prepared statement to any server connection.
        options["statement_cache_size"] = 0
    else:
        options["server_settings"]["search_path"] = search_path
    if target.connect_timeout is not None:
        options["timeout"] = target.connect_timeout
    return options


def _quoted_name(name: str) -> str:
    """Quote a schema's name for the setting search_path (PostgreSQL manual, section 4.1.1).

    Raises:
        InvalidArgument: the name is empty, longer than PostgreSQL keeps, reserved, or has U+0000
            or a lone surrogate.
    """
    try:
        size = len(name.encode())
    except UnicodeEncodeError as error:
        raise InvalidArgument(
            "schema", "has a lone surrogate, which UTF-8 cannot encode"
        ) from error
    if not 0 < size <= _LONGEST_NAME or "\0" in name:
        raise InvalidArgument("schema", f"must have 1 to {_LONGEST_NAME} bytes and no U+0000")
    if name.startswith("pg_") or name == "information_schema":
        raise InvalidArgument(
            "schema", "information_schema and names that begin with pg_ are reserved by the server"
        )
    if name == "$user":  # even a quoted $user means the role's name in a search path
        raise InvalidArgument("schema", "$user stands for the role's name in a search path")
    return '"' + name.replace('"', '""') + '"'
