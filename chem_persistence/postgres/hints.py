"""Hints that flows are due, sent by NOTIFY (PostgreSQL manual, SQL command NOTIFY).

They are sent after the commit of the appends, in a transaction of their own, since a transaction
with a NOTIFY takes a lock of the whole database until it has committed. The flows of one batch
share a hint. The channel is named after the table, so that each schema has its own.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Collection, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import TYPE_CHECKING, Protocol, cast
from uuid import uuid4

import asyncpg

from chem_persistence.errors import ChemPersistenceError
from chem_persistence.postgres.connection.ports import Connection, ConnectionProvider
from chem_persistence.postgres.schema.statements import statement
from chem_persistence.store.leasing.hints import ANY_DEFINITION

if TYPE_CHECKING:
    DriverConnection = asyncpg.Connection[asyncpg.Record]

__all__ = ["Listener", "heard_hints", "send_hints"]

NOTIFY_WORKERS = statement("work/notify_workers")
READ_HINT_CHANNEL = statement("work/read_hint_channel")

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 30.0
"""The seconds until a lost connection is opened again; the pause doubles each time it fails."""

FIRST_PROBE_PAUSE = 1.0
"""The seconds after which a probe is sent again that was not heard; the pause doubles."""

_FAILURES = (
    ChemPersistenceError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
)

_logger = logging.getLogger("chem_persistence.leases")


async def send_hints(connection: Connection, definitions: Iterable[str]) -> None:
    """Notify the workers that flows of these definitions are due; a failure is only logged."""
    try:
        await connection.fetch(NOTIFY_WORKERS, list(definitions))
    except _FAILURES as error:
        _logger.debug("no hint was sent to workers: %s", type(error).__name__)


class Listener(Protocol):
    """What is told of the connection on which hints are heard."""

    def listen_on(
        self, connection: Connection | None, give_up: Callable[[], None] = ..., /
    ) -> None:
        """Take that connection for statements of its own, one at a time; None: it is lost.

        The listener calls `give_up` if one of them fails.
        """
        ...

    def hear_hints(self) -> None:
        """Note that what another connection sends is heard."""
        ...

    async def hint(self, definitions: Collection[str]) -> None:
        """Send a hint on another connection; a failure is not raised."""
        ...


@asynccontextmanager
async def heard_hints(
    separate: AbstractAsyncContextManager[ConnectionProvider],
    told: Callable[[str], None],
    listener: Listener,
) -> AsyncIterator[None]:
    """Call `told` with the definition of each hint, on a connection that is held for the block.

    It is called with `ANY_DEFINITION` as well when the connection begins to listen, and when it is
    lost.
    """
    listening = asyncio.create_task(_keep_listening(separate, told, listener))
    try:
        yield
    finally:
        listening.cancel()
        await asyncio.wait([listening])


async def _keep_listening(
    separate: AbstractAsyncContextManager[ConnectionProvider],
    told: Callable[[str], None],
    listener: Listener,
) -> None:
    pause = FIRST_PAUSE
    async with separate as provider:
        while True:
            try:
                async with provider.acquire() as connection:
                    (row,) = await connection.fetch(READ_HINT_CHANNEL)
                    driver = cast("DriverConnection", connection)
                    await _listen(driver, row["channel"], told, listener)
                pause = FIRST_PAUSE
            except _FAILURES as error:
                _logger.info("no hints are heard for now: %s", type(error).__name__)
                pause = min(2 * pause, LONGEST_PAUSE)
            await asyncio.sleep(pause)


async def _listen(
    connection: "DriverConnection",
    channel: str,
    told: Callable[[str], None],
    listener: Listener,
) -> None:
    """Pass on what is heard until the connection is lost."""
    lost, is_over = asyncio.Event(), asyncio.Event()
    probe = f"probe {uuid4()}"

    def hear(_: object, __: int, ___: str, definition: object) -> None:
        if definition == probe:
            listener.hear_hints()
            is_over.set()
        else:
            told(str(definition))

    def end(_: object) -> None:
        lost.set()

    connection.add_termination_listener(end)
    await connection.add_listener(channel, hear)
    listener.listen_on(cast("Connection", connection), lost.set)
    probing = asyncio.create_task(_probe(listener, probe, is_over))
    told(ANY_DEFINITION)  # what came before is not heard
    try:
        await lost.wait()
    finally:
        is_over.set()
        probing.cancel()
        listener.listen_on(None)
        told(ANY_DEFINITION)  # from now on, a worker has to look by itself
        with suppress(*_FAILURES):  # the pool has taken it back
            connection.remove_termination_listener(end)
            if lost.is_set():
                connection.terminate()  # which also forgets the listener: the pool warns of one
            else:
                await connection.remove_listener(channel, hear)


async def _probe(listener: Listener, probe: str, is_over: asyncio.Event) -> None:
    """Send a hint from another connection, again and again until it was heard.

    A pooler that nobody told of accepts LISTEN, and then passes on nothing (PgBouncer's table of
    features, "LISTEN").
    """
    pause = FIRST_PROBE_PAUSE
    while not is_over.is_set():
        await listener.hint([probe])
        with suppress(TimeoutError):
            async with asyncio.timeout(pause):
                await is_over.wait()
        pause = min(2 * pause, LONGEST_PAUSE)
