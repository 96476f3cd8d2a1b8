"""Transactions that leave their connection usable, also when the task is cancelled."""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import anyio
import asyncpg

from chem_persistence.postgres.connection.failures import library_errors, outcome_of_commit
from chem_persistence.postgres.connection.ports import Connection

__all__ = ["own_transaction", "transaction"]

ROLLBACK_SECONDS = 5.0
"""How long a cancelled task waits for the ROLLBACK; later the pool ends the transaction."""


@asynccontextmanager
async def transaction(
    connection: Connection, *, isolation: str | None = None
) -> AsyncIterator[None]:
    """Open a transaction, or a savepoint inside one; its failures stay the driver's.

    Its ROLLBACK is shielded from a cancelled anyio scope, which would cancel every await in it.
    A ROLLBACK that fails because the connection is lost does not replace the block's own error. An
    internal error of the server at a COMMIT is raised as `OutcomeUnknown`.
    """
    is_savepoint = connection.is_in_transaction()
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
    try:
        await opened.__aexit__(None, None, None)
    except asyncpg.InternalServerError as error:
        if is_savepoint:
            raise
        raise outcome_of_commit(error) from error


@asynccontextmanager
async def own_transaction(
    connection: Connection, *, isolation: str | None = None
) -> AsyncIterator[None]:
    """Open a transaction, or a savepoint, whose own failures are raised as the library's.

    What the block raises is passed on unchanged.

    Raises:
        StoreUnavailable: the connection was lost at the transaction's begin or end.
        StoreError: the database refused to begin or to end it.
    """
    opened = transaction(connection, isolation=isolation)
    with library_errors(connection):
        await opened.__aenter__()
    try:
        yield
    except BaseException as error:
        await opened.__aexit__(type(error), error, error.__traceback__)
        raise
    with library_errors(connection):
        await opened.__aexit__(None, None, None)
