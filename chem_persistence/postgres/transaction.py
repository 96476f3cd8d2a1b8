"""A transaction that leaves its connection healthy, also when it is cancelled."""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import anyio
import asyncpg

from chem_persistence.ports import Connection

__all__ = ["transaction"]

ROLLBACK_SECONDS = 5.0
"""How long a cancelled caller waits for the ROLLBACK; the pool ends a transaction that is still open after that."""


@asynccontextmanager
async def transaction(connection: Connection, *, isolation: str | None = None) -> AsyncIterator[None]:
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
            suppress(asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError),
        ):
            await opened.__aexit__(*sys.exc_info())
        raise
    await opened.__aexit__(None, None, None)
