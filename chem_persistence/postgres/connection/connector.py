"""Connections to the database of a URL, opened within a time limit and watched from then on."""

import os
import socket
from typing import Any
from urllib.parse import unquote, urlsplit

import asyncpg

from chem_persistence.errors import InvalidArgument, InvalidDatabaseUrl
from chem_persistence.postgres.connection.failures import ServerSilent
from chem_persistence.postgres.connection.liveness import Watch, WatchedConnection
from chem_persistence.postgres.connection.password_file import NO_FILE, find_password
from chem_persistence.postgres.connection.url import DatabaseUrl
from chem_persistence.postgres.schema.distribution import SESSION_SETTINGS, has_citus

__all__ = ["CONNECT_SECONDS", "Connector"]

CONNECT_SECONDS = 10.0
"""How long a new connection may take unless the URL's connect_timeout says otherwise."""

_SETTINGS = {"jit": "off"}
"""Settings of every session, by name.

No statement of the library computes much for a row, and lists of flows are expected to cost more
than they do, as their plans are for any arguments: in a log of a million flows the server would
compile the plan (PostgreSQL manual, section 32.1), which takes far longer than to run it. It does
so where it was built with LLVM, as Debian's packages are.
"""

_LONGEST_NAME = 63
"""The length at which PostgreSQL truncates a name, in bytes (manual, section 4.1.1)."""


class Connector:
    """Opens the connections of a pool.

    `silence` is how long, in seconds, the server may be silent before it is asked for a sign of
    life. With `transaction_pooling` a pooler is in between: it rejects settings, and sends a
    prepared statement to any session. On a server with Citus sessions have further settings. A
    session keeps only settings that it began with, since the pool resets all others: so the first
    connection finds out, unless `has_citus` was set before, and is opened anew if it lacks them.

    Raises:
        InvalidArgument: the schema's name is invalid, or `silence` is not positive.
    """

    def __init__(
        self, target: DatabaseUrl, schema: str, *, transaction_pooling: bool, silence: float
    ) -> None:
        if not silence > 0:
            raise InvalidArgument("silence_timeout", f"must be above 0, not {silence}")
        search_path = _search_path(schema)
        self.sets_search_path = not transaction_pooling
        self.has_citus: bool | None = None
        self._target = target
        self._schema = schema
        self._settings = dict(target.server_settings)
        self._options: dict[str, Any] = {"statement_cache_size": 0} if transaction_pooling else {}
        if self.sets_search_path:
            self._settings |= {"search_path": search_path, **_SETTINGS}
        self.watch = Watch(silence, self._open_witness, own_sessions=not transaction_pooling)

    def copy(self) -> "Connector":
        """Return another connector to the same database, for the event loop of another thread."""
        copied = Connector(
            self._target,
            self._schema,
            transaction_pooling=not self.sets_search_path,
            silence=self.watch.silence,
        )
        copied.has_citus = self.has_citus
        return copied

    async def open_for_pool(self, *_: Any, **__: Any) -> WatchedConnection:
        """Open a connection for a pool, which passes the arguments that are known here.

        Raises:
            ServerSilent, InvalidDatabaseUrl, OSError, asyncpg.PostgresError: as `open_plain`.
        """
        connection = await self.open_plain()
        if self.has_citus is None:
            try:
                self.has_citus = await has_citus(connection)
            except BaseException:
                connection.terminate()
                raise
            if self._citus_settings():
                await connection.close()
                connection = await self.open_plain()
        return connection

    async def open_plain(self) -> WatchedConnection:
        """Open a watched connection; the settings for Citus are left out until it is found.

        Raises:
            ServerSilent: the server did not answer in time.
            InvalidDatabaseUrl: the host is not a valid host name.
            OSError, asyncpg.PostgresError: the server cannot be reached, or refused.
        """
        limit = self._target.connect_timeout or CONNECT_SECONDS
        connection: WatchedConnection = await self._connect(WatchedConnection, limit)
        self._target.keepalive.apply(connection.socket)
        connection.watch(self.watch)
        return connection

    async def _open_witness(self) -> "asyncpg.Connection[asyncpg.Record]":
        witness: asyncpg.Connection[asyncpg.Record] = await self._connect(
            asyncpg.Connection, self.watch.silence
        )
        return witness

    async def _connect(self, kind: Any, limit: float) -> Any:
        target = self._target
        options: dict[str, Any] = {"connection_class": kind, "timeout": limit, "passfile": NO_FILE}
        if (password := find_password(target, os.environ)) is not None:
            options["password"] = password
        settings = self._settings | self._citus_settings()
        try:
            return await asyncpg.connect(
                target.dsn, server_settings=settings, **options, **self._options
            )
        except UnicodeError as error:
            raise InvalidDatabaseUrl(
                "has a host that is not a valid host name (RFC 1035, section 2.3.4)"
            ) from error
        except socket.gaierror as error:
            # The error does not name the host; of several hosts the driver raises only the last one
            raise socket.gaierror(error.errno, f"{error.strerror}: {_hosts(target.dsn)}") from error
        except TimeoutError as error:
            raise ServerSilent(limit, connecting=True) from error

    def _citus_settings(self) -> dict[str, str]:
        return SESSION_SETTINGS if self.has_citus and self.sets_search_path else {}


def _hosts(dsn: str) -> str:
    """Return the hosts of a `DatabaseUrl.dsn`, whose network location has no user or password."""
    hosts = urlsplit(dsn).netloc.split(",")
    return ", ".join(unquote(host.rpartition(":")[0]) for host in hosts) or "localhost"


def _search_path(schema: str) -> str:
    """Return the setting search_path for a schema (PostgreSQL manual, sections 4.1.1 and 20.11.1).

    Temporary tables come last: unless they are named they come first, and one called event_log
    would hide the log.

    Raises:
        InvalidArgument: the name is empty, longer than PostgreSQL keeps, reserved, or has U+0000
            or a lone surrogate.
    """
    try:
        size = len(schema.encode())
    except UnicodeEncodeError as error:
        raise InvalidArgument(
            "schema", "has a lone surrogate, which UTF-8 cannot encode"
        ) from error
    if not 0 < size <= _LONGEST_NAME or "\0" in schema:
        raise InvalidArgument("schema", f"must have 1 to {_LONGEST_NAME} bytes and no U+0000")
    if schema.startswith("pg_") or schema == "information_schema":
        raise InvalidArgument(
            "schema", "information_schema and names that begin with pg_ are reserved by the server"
        )
    if schema == "$user":  # even a quoted $user means the role's name in a search path
        raise InvalidArgument("schema", "$user stands for the role's name in a search path")
    quoted = '"' + schema.replace('"', '""') + '"'
    return f"{quoted}, pg_temp"
