"""A connection provider that counts its leases."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from chem_persistence.postgres.connection.ports import Connection, ConnectionProvider

__all__ = ["CountingProvider"]


class CountingProvider:
    """Counts how often a connection is acquired."""

    def __init__(self, provider: ConnectionProvider) -> None:
        self.lent = 0
        self._provider = provider

    def acquire(self) -> AbstractAsyncContextManager[Connection]:
        return self._acquire()

    @asynccontextmanager
    async def _acquire(self) -> AsyncIterator[Connection]:
        self.lent += 1
        async with self._provider.acquire() as connection:
            yield connection
