"""A transaction whose own statements fail with the library's errors, while its block's errors stay as they are."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from chem_persistence.ports import Connection
from chem_persistence.postgres.failures import library_errors
from chem_persistence.postgres.session import noticing_loss
from chem_persistence.postgres.transaction import transaction

__all__ = ["own_transaction"]


@asynccontextmanager
async def own_transaction(connection: Connection, *, isolation: str | None = None) -> AsyncIterator[None]:
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
