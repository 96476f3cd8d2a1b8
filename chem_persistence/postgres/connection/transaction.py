"""A transaction that leaves its connection healthy, also when it is cancelled."""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import anyio
import asyncpg

from chem_persistence.postgres.connection.failures import library_errors
from chem_persistence.postgres.connection.ports import Connection
from chem_persistence.postgres.connection.session import noticing_loss

__all__ = ["own_transaction", "transaction"]

ROLLBACK_SECONDS = 5.0
"""How long a cancelled caller waits for the ROLLBACK; the pool ends a transaction that is still open after that."""


@asynccontextmanager
async def transaction(
    connection: Connection, *, isolation: str | None = None
) -> AsyncIterator[None]:
    """Open a transaction, or a savepoint inside one.

    Its ROLLBACK goes through although a cancelled anyio scope cancels every await in it; one that fails, because the
    connection is gone, does not hide why the block was left.
    """
    opened = connection.transaction(isolation=isolation)
    await opened.__aenter__()
    try:
        yield
    except BaseException:
        with (
            anyio.move_on_after(ROLLBACK_SECONDS, shield=True),
            suppress(
                asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError
            ),
        ):
            await opened.__aexit__(*sys.exc_info())
        raise
    await opened.__aexit__(None, None, None)


@asynccontextmanager
async def own_transaction(
    connection: Connection, *, isolation: str | None = None
) -> AsyncIterator[None]:
    """Open a transaction, or a savepoint inside one.

    Raises:
        StoreUnavailable: the connection was lost at its begin or its end.
        StoreError: the database refused to begin or to end it.
    """
    opened = transaction(connection, isolation=isolation)
    with library_errors(), noticing_loss(connection):
        await opened.__aenter__()
    try:
        yield
    except BaseException as error:
        await opened.__aexit__(type(error), error, error.__traceback__)
        raise
    with library_errors(), noticing_loss(connection):
        await opened.__aexit__(None, None, None)
