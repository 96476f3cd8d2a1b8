"""A transaction that leaves its connection healthy, also when it is cancelled."""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio

from chem_persistence.ports import Connection

__all__ = ["transaction"]

ROLLBACK_SECONDS = 5.0
"""How long a cancelled caller waits for the ROLLBACK; the pool ends a transaction that is still open after that."""


@asynccontextmanager
async def transaction(connection: Connection) -> AsyncIterator[None]:
    """Open a transaction; its ROLLBACK goes through although a cancelled anyio scope cancels every await in it."""
    opened = connection.transaction()
    await opened.__aenter__()
    try:
        yield
    except BaseException:
        with anyio.move_on_after(ROLLBACK_SECONDS, shield=True):
            await opened.__aexit__(*sys.exc_info())
        raise
    await opened.__aexit__(None, None, None)
