"""Connection pools: opened on a database, with its schema brought up to date first."""

import asyncio
import os
from asyncio.events import _get_running_loop as _running_loop
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import (
    AbstractAsyncContextManager,
    asynccontextmanager,
    contextmanager,
    nullcontext,
    suppress,
)
from functools import partialmethod
from typing import TYPE_CHECKING, Any, TypeAlias
from weakref import WeakValueDictionary

import asyncpg

from chem_persistence.errors import (
    InvalidArgument,
    InvalidDatabaseUrl,
    MigrationError,
    StoreUnavailable,
)
from chem_persistence.postgres.connection.connector import Connector
from chem_persistence.postgres.connection.event_loop import check_event_loop
from chem_persistence.postgres.connection.failures import LOST_STATEMENT, ServerSilent, cause_on
from chem_persistence.postgres.connection.jsonb import pass_jsonb_as_bytes
from chem_persistence.postgres.connection.liveness import SILENCE_SECONDS, WatchedConnection
from chem_persistence.postgres.connection.ports import Connection
from chem_persistence.postgres.connection.session import with_retries
from chem_persistence.postgres.connection.tls_files import check_tls_files
from chem_persistence.postgres.connection.url import DatabaseUrl, parse_database_url
from chem_persistence.postgres.schema.distribution import check_node
from chem_persistence.postgres.schema.migrations import migrate
from chem_persistence.postgres.schema.statements import statement
from chem_persistence.telemetry.gauges import watch_pool
from chem_persistence.telemetry.hooks import watched_borrow

__all__ = ["PoolProvider", "build_dev_pool_from_env", "build_pool", "open_pool"]

READ_CURRENT_SCHEMA = statement("migrations/read_current_schema")

Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"

RELEASE_SECONDS = 10.0
"""How long the reset of a returned connection may take, or the cancellation of its statement."""


_IN_A_TRANSACTION = (
    "; in the block of store.transaction() append and read on the transaction itself "
    "(tx.append_kind, tx.list, tx.get_artifact)"
)


if TYPE_CHECKING:
    DriverPool = asyncpg.Pool[asyncpg.Record]
else:
    DriverPool = asyncpg.Pool


class _OpenedPool(DriverPool):
    """A pool that remembers how its connections are opened."""

    connector: Connector | None = None


class _Hold:
    """A transaction of the store: its task, and whether that waits for another connection."""

    __slots__ = ("task", "waits")

    def __init__(self, task: "asyncio.Task[Any] | None") -> None:
        self.task = task
        self.waits = False


_holds_of: WeakValueDictionary[int, set[_Hold]] = WeakValueDictionary()
"""By the id of a pool; its providers keep it and its entry."""


class PoolProvider:
    """A provider that lends a pool's connections.

    A caller waits at most `acquire_timeout` seconds for one; then `StoreUnavailable` is raised.
    """

    def __init__(self, pool: Pool, *, acquire_timeout: float = 30.0) -> None:
        self._pool = pool
        self._acquire_timeout = acquire_timeout
        self._name = watch_pool(self, pool)
        self._loop: asyncio.AbstractEventLoop | None = getattr(pool, "_loop", None)
        self.holds = _holds_of.setdefault(id(pool), set())
        """The transactions of stores that hold a connection of the pool, by any provider."""

    @asynccontextmanager
    async def acquire(self, *, is_unchanged: bool = False) -> AsyncIterator[Connection]:
        """Lend a connection for the length of a block.

        A connection that breaks when it is returned is discarded silently: the work done on it
        stands, and the block's own exception, such as a cancellation, is not replaced.

        The session is reset afterwards, so that no setting or lock of it stays. With `is_unchanged`
        the caller promises to make none, which saves this round trip unless the block raises.

        Raises:
            StoreUnavailable: no connection was free within `acquire_timeout` seconds; or all are
                held by transactions that wait for another one themselves.
            InvalidArgument: the pool belongs to another event loop.
        """
        if _running_loop() is not self._loop:
            check_event_loop(self._loop)
        try:
            with self.waiting() if self.holds else nullcontext():
                connection = await watched_borrow(
                    self._pool.acquire(timeout=self._acquire_timeout), self._name
                )
        except ServerSilent:  # one was free, and the server did not answer
            raise
        except TimeoutError as error:
            raise StoreUnavailable(
                f"no connection of the pool was free within {self._acquire_timeout} s; "
                f"make the pool larger, or hold its connections for less time{self._held()}"
            ) from error
        try:
            yield connection
            if is_unchanged and (leave := getattr(connection, "leave_as_it_is", None)):
                leave()
        except (asyncpg.InvalidSQLStatementNameError, StoreUnavailable) as error:
            if error.sqlstate == LOST_STATEMENT:
                connection.terminate()  # the driver would go on naming statements that are gone
            raise
        finally:
            with suppress(
                asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError
            ):
                await self._pool.release(connection, timeout=RELEASE_SECONDS)

    acquire_for_statements = partialmethod(acquire, is_unchanged=True)
    """What `Session` uses for statements of the library, none of which changes its session."""

    def separate(
        self, *, own_session: bool = False
    ) -> "AbstractAsyncContextManager[PoolProvider] | None":
        """Return a provider of one connection to the same database, for any event loop.

        It belongs to the event loop that opens it, also in another thread, and shares no connection
        with this one. Return None if `build_pool` did not open the pool; with `own_session` also if
        a pooler gives each transaction another session of the server.
        """
        connector: Connector | None = getattr(self._pool, "connector", None)
        if connector is None or (own_session and not connector.watch.own_sessions):
            return None
        return _separate(connector.copy())

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Note, for the length of a block, that the task's transaction holds a connection."""
        hold = _Hold(asyncio.current_task())
        self.holds.add(hold)
        try:
            yield
        finally:
            self.holds.discard(hold)

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Note, for the length of a block, that the task waits for a connection.

        Raises:
            StoreUnavailable: the task waits in a transaction, and all connections are held by such
                transactions: none would ever be returned.
        """
        task = asyncio.current_task()
        own = [hold for hold in self.holds if hold.task is task and not hold.waits]
        for hold in own:
            hold.waits = True
        try:
            stuck = sum(hold.waits for hold in self.holds)
            if own and stuck >= self._pool.get_max_size():
                raise StoreUnavailable(
                    f"all {stuck} connections of the pool are held by transactions that wait for "
                    f"another one{_IN_A_TRANSACTION}"
                )
            yield
        finally:
            for hold in own:
                hold.waits = False

    def _held(self) -> str:
        return f" ({len(self.holds)} are held by transactions){_IN_A_TRANSACTION}" * bool(
            self.holds
        )


@asynccontextmanager
async def _separate(connector: Connector) -> AsyncIterator[PoolProvider]:
    async with await _open(connector, 0, 1, reset=_keep_as_it_is) as pool:
        yield PoolProvider(pool)


async def _keep_as_it_is(_: object) -> None:
    """Leave a session whose settings no statement changes, which saves a round trip a use."""


async def build_pool(
    url: str,
    *,
    min_size: int = 0,
    max_size: int = 10,
    schema: str = "public",
    transaction_pooling: bool = False,
    silence_timeout: float = SILENCE_SECONDS,
) -> Pool:
    """Open a pool on a database, after bringing its schema up to date.

    `min_size` connections stay open even if unused; up to `max_size` are opened on demand. `url` is
    a libpq URL (PostgreSQL manual, section 34.1.1.2); the tables are in `schema`, which is created
    if it is missing. Close the pool with `await pool.close()`, or use it as an asynchronous context
    manager. `transaction_pooling` is for a URL of PgBouncer: no prepared statement outlives its
    transaction, and the search path is the role's own, which must begin with `schema`. Of a Citus
    cluster, `url` names the coordinator; sessions get the settings that Citus needs for this.

    Keepalive is on, as `keepalives` and `tcp_user_timeout` of the URL say. When no byte has passed
    for half of `silence_timeout` seconds while a statement runs, another connection asks the server
    whether it still works on the statement, for at most `silence_timeout` seconds. If not, the
    connection is closed. So a call ends in `StoreUnavailable` after at most twice that time and
    twice the `connect_timeout` of the URL (10 s by default): 30 s when the network goes silent. A
    statement that the server works on is never cut off.

    Raises:
        InvalidDatabaseUrl: the URL is malformed, asks for a protection that the driver does not
            offer, or names a TLS file that cannot be read.
        InvalidArgument: the schema's name, the sizes or the timeout are invalid; or no asyncio
            event loop runs.
        UnsupportedServer: the server is older than PostgreSQL 15.
        MigrationError: the schema is newer than this library, was changed, or is not the first
            one of the search path; the database is not encoded in UTF-8; or the server is a worker
            node of a Citus cluster.
        StoreUnavailable: the server cannot be reached, or accepts no connections.
        StoreError: the server refused the password, the database, or a statement for lack of a
            privilege.
    """
    if _running_loop() is None:
        check_event_loop()
    _check_sizes(min_size, max_size)
    connector = Connector(
        _checked_target(url),
        schema,
        transaction_pooling=transaction_pooling,
        silence=silence_timeout,
    )
    await with_retries(lambda: _bring_up_to_date(connector, schema))
    return await _open(connector, min_size, max_size)


async def open_pool(
    url: str,
    *,
    min_size: int = 0,
    max_size: int = 10,
    schema: str = "public",
    silence_timeout: float = SILENCE_SECONDS,
) -> Pool:
    """Open a pool as `build_pool` does, but leave the schema as it is.

    Raises:
        InvalidDatabaseUrl, InvalidArgument: as `build_pool`.
        StoreUnavailable, StoreError: as `build_pool`; with a `min_size` of 0 only at the first use.
    """
    if _running_loop() is None:
        check_event_loop()
    _check_sizes(min_size, max_size)
    connector = Connector(
        _checked_target(url), schema, transaction_pooling=False, silence=silence_timeout
    )
    return await _open(connector, min_size, max_size)


async def build_dev_pool_from_env(
    *,
    min_size: int = 0,
    max_size: int = 10,
    schema: str = "public",
    transaction_pooling: bool = False,
    silence_timeout: float = SILENCE_SECONDS,
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
        silence_timeout=silence_timeout,
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


async def _know_types(connection: Any) -> None:
    await pass_jsonb_as_bytes(connection)
    connection.row_types.know_uuids()


async def _open(
    connector: Connector,
    min_size: int,
    max_size: int,
    *,
    reset: Callable[[Any], Awaitable[None]] | None = None,
) -> Pool:
    async def opened() -> Pool:
        pool = _OpenedPool(
            min_size=min_size,
            max_size=max_size,
            max_queries=50_000,
            max_inactive_connection_lifetime=300.0,
            setup=None,
            init=_know_types,
            reset=reset,
            loop=None,
            connect=connector.open_for_pool,
            connection_class=WatchedConnection,
            record_class=asyncpg.Record,
        )
        pool.connector = connector
        return await pool

    pool = await with_retries(opened)
    connector.watch.when_silent = pool.expire_connections
    return pool


async def _bring_up_to_date(connector: Connector, schema: str) -> None:
    connection = await connector.open_plain()
    try:
        if not connector.sets_search_path:
            await _check_search_path(connection, schema)
        connector.has_citus = await check_node(connection)
        await migrate(connection, schema)
    except (asyncpg.InterfaceError, asyncpg.InternalClientError) as error:
        cause = cause_on(connection, error)
        if cause is error:
            raise
        raise cause from error
    finally:
        await connection.close()


async def _check_search_path(connection: "asyncpg.Connection[asyncpg.Record]", schema: str) -> None:
    current = await connection.fetchval(READ_CURRENT_SCHEMA)
    if current != schema:
        raise MigrationError(
            f"the search path begins with schema {current!r}, not with {schema!r}: "
            "migrate without the pooler, then run ALTER ROLE ... SET search_path for the login role"
        )
