"""How a piece of work gets a connection: lent for one attempt, retried when the failure passes by itself."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

import asyncpg

from chem_persistence.ports import Connection, ConnectionProvider
from chem_persistence.postgres.failures import ConnectionLost
from chem_persistence.postgres.retrying import with_retries

__all__ = ["call"]

Result = TypeVar("Result")


async def call(provider: ConnectionProvider, work: Callable[[Connection], Awaitable[Result]]) -> Result:
    """Do work that may safely be done again on a connection of its own.

    Raises:
        StoreUnavailable: it failed transiently, also at the last retry.
        StoreError: the database refused.
    """

    async def attempt() -> Result:
        async with provider.acquire() as connection:
            try:
                return await work(connection)
            except asyncpg.InterfaceError as error:
                if _is_gone(connection):
                    raise ConnectionLost from error
                raise

    return await with_retries(attempt)


def _is_gone(connection: Connection) -> bool:
    """Say whether a lent connection has broken; the pool takes such a one back at once, and then refuses to say."""
    try:
        return connection.is_closed()
    except asyncpg.InterfaceError:
        return True
