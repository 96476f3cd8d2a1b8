"""Hints that flows are due, sent by NOTIFY (PostgreSQL manual, SQL command NOTIFY).

They are sent after the commit of the appends, in a transaction of their own, since a transaction
with a NOTIFY takes a lock of the whole database until it has committed. The flows of one batch
share a hint. The channel is named after the table, so that each schema has its own.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import TYPE_CHECKING, cast

import asyncpg

from chem_persistence.errors import ChemPersistenceError
from chem_persistence.postgres.connection.ports import Connection, ConnectionProvider
from chem_persistence.postgres.schema.statements import statement
from chem_persistence.store.leasing.hints import ANY_DEFINITION

if TYPE_CHECKING:
    DriverConnection = asyncpg.Connection[asyncpg.Record]

__all__ = ["heard_hints", "send_hints"]

NOTIFY_WORKERS = statement("work/notify_workers")
READ_HINT_CHANNEL = statement("work/read_hint_channel")

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 30.0
"""The seconds until a lost connection is opened again; the pause doubles each time it fails."""

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


@asynccontextmanager
async def heard_hints(
    separate: AbstractAsyncContextManager[ConnectionProvider],
    told: Callable[[str], None],
    lend: Callable[[Connection | None], None],
) -> AsyncIterator[None]:
    """Call `told` with the definition of each hint, on a connection that is held for the block.

    `lend` gets that connection for statements of its own, one at a time, and None when it is lost.
    """
    listening = asyncio.create_task(_keep_listening(separate, told, lend))
    try:
        yield
    finally:
        listening.cancel()
        await asyncio.wait([listening])


async def _keep_listening(
    separate: AbstractAsyncContextManager[ConnectionProvider],
    told: Callable[[str], None],
    lend: Callable[[Connection | None], None],
) -> None:
    pause = FIRST_PAUSE
    async with separate as provider:
        while True:
            try:
                async with provider.acquire() as connection:
                    (row,) = await connection.fetch(READ_HINT_CHANNEL)
                    driver = cast("DriverConnection", connection)
                    await _listen(driver, row["channel"], told, lend)
                pause = FIRST_PAUSE
            except _FAILURES as error:
                _logger.info("no hints are heard for now: %s", type(error).__name__)
                pause = min(2 * pause, LONGEST_PAUSE)
            await asyncio.sleep(pause)


async def _listen(
    connection: "DriverConnection",
    channel: str,
    told: Callable[[str], None],
    lend: Callable[[Connection | None], None],
) -> None:
    """Pass on what is heard until the connection is lost."""
    lost = asyncio.Event()

    def hear(_: object, __: int, ___: str, definition: object) -> None:
        told(str(definition))

    def end(_: object) -> None:
        lost.set()

    connection.add_termination_listener(end)
    await connection.add_listener(channel, hear)
    lend(cast("Connection", connection))
    told(ANY_DEFINITION)  # what came before is not heard
    try:
        await lost.wait()
    finally:
        lend(None)
        with suppress(*_FAILURES):  # it is lost, and the pool has taken it back
            connection.remove_termination_listener(end)
            await connection.remove_listener(channel, hear)
