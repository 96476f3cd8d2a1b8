"""Connections that notice when the network goes silent.

A statement has no time limit, since a legitimate one may take hours. Instead, when no byte has
passed for a while, a second connection asks the server whether it still works on the statement. If
that connection gets no answer, or the server does not work on it, the first connection is closed at
once, without the farewell that would wait for the silent network as well; a transaction in which
the server still waits for it is ended, so that it keeps no locks. Keepalive cannot do this
alone: the kernel of a proxy that forwards nothing still acknowledges.

Source: PostgreSQL manual, section 27.2.3 (pg_stat_activity).
"""

import asyncio
import gc
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import Context
from enum import Enum
from typing import TYPE_CHECKING, Any, cast
from weakref import WeakKeyDictionary, WeakSet

import asyncpg

from chem_persistence.postgres.connection.failures import LastWord, ServerSilent, heard
from chem_persistence.postgres.connection.ports import Connection
from chem_persistence.postgres.connection.sockets import bytes_passed
from chem_persistence.postgres.schema.row_types import RowTypes
from chem_persistence.postgres.schema.statements import statement

__all__ = ["SILENCE_SECONDS", "Watch", "WatchedConnection", "last_word_on"]

END_ABANDONED_SESSION = statement("liveness/end_abandoned_session")
FIND_RUNNING_STATEMENT = statement("liveness/find_running_statement")
FIND_WORK_OF_NODES = statement("distribution/find_work_of_nodes")

SILENCE_SECONDS = 5.0
"""The default of `build_pool(silence_timeout=...)`."""

LONGEST_DOUBT = 12
"""After so many silence timeouts without a byte, a server that cannot tell counts as silent."""

if TYPE_CHECKING:
    DriverConnection = asyncpg.Connection[asyncpg.Record]
else:
    DriverConnection = asyncpg.Connection


class _Verdict(Enum):
    WORKING = "the server works on the statement"
    WAITING = "the server answers, and has ended the statement or waits for its client"
    SILENT = "the server does not answer"
    UNKNOWN = "the server answers, but does not tell what it works on"


class Watch:
    """What the connections of a pool share: how to ask the server on another connection.

    `silence` is in seconds. `open_witness` opens a connection to the same server. Behind a pooler,
    `own_sessions` is false: the session that works on a statement is not known by its process id.
    `when_silent` is called once a connection was found silent, since the others may be as well.
    """

    def __init__(
        self,
        silence: float,
        open_witness: "Callable[[], Awaitable[asyncpg.Connection[asyncpg.Record]]]",
        *,
        own_sessions: bool,
    ) -> None:
        self.silence = silence
        self.own_sessions = own_sessions
        self.when_silent: Callable[[], Awaitable[None]] | None = None
        self._open_witness = open_witness

    async def ask(self, pid: int) -> _Verdict:
        """Ask on a second connection whether the session `pid` works on a statement."""
        known_pid = pid if self.own_sessions else None
        try:
            (row,) = await self._fetch(FIND_RUNNING_STATEMENT, known_pid, self._milliseconds)
            is_running = row["is_running"]
            if not is_running and row["may_wait_for_nodes"]:
                moment = round(self.silence * 1000)
                ((is_running,),) = await self._fetch(FIND_WORK_OF_NODES, known_pid, moment)
        except asyncpg.PostgresError as error:  # it answers: too many connections, for example
            is_stopping = (error.sqlstate or "").startswith("57P")
            return _Verdict.SILENT if is_stopping else _Verdict.UNKNOWN
        except (OSError, asyncpg.InterfaceError, asyncpg.InternalClientError):
            return _Verdict.SILENT
        if row["is_hidden"]:
            return _Verdict.UNKNOWN
        return _Verdict.WORKING if is_running else _Verdict.WAITING

    async def end(self, pid: int) -> None:
        """End the transaction of a session that was closed here, if it waits for its client.

        A server that does not answer in time is asked again: a retry may wait for the locks of that
        session. It has to have waited since before it was closed: another one may have its number.
        """
        loop = asyncio.get_running_loop()
        closed_at = loop.time()
        while self.own_sessions:
            since = loop.time() - closed_at
            waiting = self._milliseconds + round(since * 1000)
            with suppress(
                OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError
            ):
                await self._fetch(END_ABANDONED_SESSION, pid, waiting)
                return
            if since > LONGEST_DOUBT * self.silence:
                return
            await asyncio.sleep(self.silence)

    @property
    def _milliseconds(self) -> int:
        """For how long a session must have been in its state: a quarter of the silence."""
        return round(self.silence * 250)

    async def _fetch(self, query: str, *arguments: object) -> list[Any]:
        async with asyncio.timeout(self.silence):
            witness = await self._open_witness()
            try:
                return await witness.fetch(query, *arguments)
            finally:
                witness.terminate()


class WatchedConnection(DriverConnection):
    """A connection that is closed when the server is silent while a statement runs.

    The statement then fails with `ServerSilent`. Nothing is done for a statement that ends in time:
    a timer looks at all connections of an event loop every now and then, while any is open.
    """

    def __init__(self, protocol: Any, transport: Any, *arguments: Any) -> None:
        super().__init__(protocol, transport, *arguments)
        self.socket = transport.get_extra_info("socket")
        self.last_word: LastWord | None = None
        self.row_types = RowTypes(protocol)
        self._driver = protocol
        self._watch: Watch | None = None
        self._sent = 0
        self._seen: tuple[object, object, object] | None = None
        self._seen_since = 0.0
        self._asking: asyncio.Task[None] | None = None
        self._is_unchanged = False

    def leave_as_it_is(self) -> None:
        """Save the round trip of the next reset: no statement since the last one needs it."""
        self._is_unchanged = True

    def get_reset_query(self) -> str:
        """Return what a pool sends when the connection is returned; nothing if it is unchanged."""
        is_unchanged, self._is_unchanged = self._is_unchanged, False
        return "" if is_unchanged else super().get_reset_query()

    def watch(self, watch: Watch) -> None:
        """Watch the statements from now on."""
        self._watch = watch
        loop, between = asyncio.get_running_loop(), watch.silence / 2
        watched = _watched.setdefault(loop, {})
        if between not in watched:
            watched[between] = WeakSet()
            loop.call_later(between, _look, loop, between)
        watched[between].add(self)

    def hear(self) -> LastWord:
        """Keep from now on an error that ends the session; when idle, the driver drops it."""
        if self.last_word is not None:
            return self.last_word
        word = self.last_word = LastWord()
        received = self._driver.data_received

        def data_received(data: bytes) -> None:
            word.keep(data)
            received(data)

        self._driver.data_received = data_received
        return word

    async def copy_rows(
        self, table: str, columns: Sequence[str], pieces: Iterable[bytes | memoryview]
    ) -> int:
        """Store rows that are given in pieces, and return how many were stored.

        Format: the binary format of COPY (PostgreSQL manual, COPY, "Binary Format").
        """
        driver, source = self._driver, _CopyData(self._driver, self._counted(pieces))
        end = driver.connection_lost

        def connection_lost(error: Exception | None) -> None:
            end(error)
            driver.resume_writing()  # the driver would wait for ever until it may send a piece

        driver.connection_lost = connection_lost
        data = cast("AsyncIterable[bytes]", source)  # any buffer will do
        try:
            tag = await self.copy_to_table(table, columns=columns, source=data, format="binary")
        except Exception:
            source.raise_error()
            raise
        finally:
            del driver.connection_lost
        return int(tag.rpartition(" ")[2])

    def _counted(self, pieces: Iterable[bytes | memoryview]) -> Iterator[bytes | memoryview]:
        """Yield pieces, each of which shows that bytes have passed."""
        for piece in pieces:
            self._sent += 1
            yield piece

    async def close(self, *, timeout: float | None = None) -> None:  # noqa: ASYNC109  # the driver's
        """Close the connection; if the server does not answer in time, without its answer."""
        if timeout is None and self._watch is not None:
            timeout = self._watch.silence
        try:
            await super().close(timeout=timeout)
        except TimeoutError:
            self.terminate()

    def look(self) -> None:
        """Look whether a byte has passed since the last look; if not, ask the server."""
        statement, watch = _under_way(self._driver), self._watch
        if statement is None or watch is None:
            self._seen = None
            return
        now = asyncio.get_running_loop().time()
        seen = (statement, bytes_passed(self.socket), self._sent)
        if seen != self._seen:
            self._seen, self._seen_since = seen, now
        elif self._asking is None:
            asking = self._ask(watch, statement, now - self._seen_since + watch.silence / 2)
            self._asking = asyncio.create_task(asking, context=Context())

    async def _ask(self, watch: Watch, statement: "asyncio.Future[Any]", silent: float) -> None:
        try:
            verdict = await watch.ask(self.get_server_pid())
            if statement.done() or verdict is _Verdict.WORKING:
                return
            if verdict is not _Verdict.UNKNOWN or silent > LONGEST_DOUBT * watch.silence:
                pid = self.get_server_pid()
                statement.set_exception(ServerSilent(silent))
                self.terminate()
                if watch.when_silent is not None:
                    await watch.when_silent()
                await watch.end(pid)
        finally:
            self._asking = None


class _CopyData:
    """The pieces that a COPY sends; other tasks run between two of them.

    It ends with the statement: the driver itself would send the others also after an error, and on
    a connection that is closed it would raise an error of its own.
    """

    def __init__(self, driver: Any, pieces: Iterable[bytes | memoryview]) -> None:
        self._driver = driver
        self._pieces = iter(pieces)
        self._statement: asyncio.Future[Any] | None = None

    def __aiter__(self) -> "_CopyData":
        return self

    async def __anext__(self) -> bytes | memoryview:
        if self._statement is None:
            self._statement = _under_way(self._driver)
        await asyncio.sleep(0)
        if self._statement is None or self._statement.done():
            raise StopAsyncIteration
        for piece in self._pieces:
            return piece
        raise StopAsyncIteration

    def raise_error(self) -> None:
        """Raise the error with which the statement has ended, if there is one."""
        statement = self._statement
        if statement is not None and statement.done() and not statement.cancelled():
            error = statement.exception()
            if error is not None:
                raise error


@contextmanager
def last_word_on(connection: Connection) -> Iterator[None]:
    """Record, during a block, the error with which the server ends the session, for `cause_on`."""
    hear = getattr(connection, "hear", None)
    if hear is None:
        yield
        return
    heard[id(connection)] = hear()
    try:
        yield
    finally:
        del heard[id(connection)]


_watched: WeakKeyDictionary[
    asyncio.AbstractEventLoop, dict[float, "WeakSet[WatchedConnection]"]
] = WeakKeyDictionary()
"""The connections of each event loop, by the seconds between two looks at them.

One timer for all of them wakes an idle process less often than one for each.
"""


def _look(loop: asyncio.AbstractEventLoop, between: float) -> None:
    """Look at connections, and schedule the next look, while any of them is open."""
    watched = _watched[loop]
    still_open = [each for each in watched.pop(between) if not each.is_closed()]
    if still_open:
        watched[between] = WeakSet(still_open)
        loop.call_later(between, _look, loop, between)
    for connection in still_open:
        connection.look()


def _under_way(driver: Any) -> "asyncio.Future[Any] | None":
    """Return the future of the statement that runs; None if there is none.

    The driver's protocol keeps it where only the garbage collector can see it.
    """
    for found in gc.get_referents(driver):
        if isinstance(found, asyncio.Future) and not found.done():
            return found
    return None
