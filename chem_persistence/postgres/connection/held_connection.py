"""A connection that is kept between calls, so that not each of them pays for borrowing it."""

import asyncio
from contextlib import AsyncExitStack

from chem_persistence.postgres.connection.ports import Connection, ConnectionProvider
from chem_persistence.postgres.connection.session import is_gone

__all__ = ["HeldConnection"]

LONGEST_SECONDS = 0.1
"""A connection goes back after this time under constant use as well, for others may be waiting for one."""


class HeldConnection:
    """Lends one and the same connection of `provider`; one on which a call fails goes back at once."""

    def __init__(self, provider: ConnectionProvider) -> None:
        self._provider = provider
        self._borrowed = AsyncExitStack()
        self._connection: Connection | None = None
        self._since = 0.0

    def acquire(self) -> "HeldConnection":
        """Lend the connection for the length of a block."""
        return self

    async def __aenter__(self) -> Connection:
        if self._connection is None:
            self._connection = await self._borrowed.enter_async_context(self._provider.acquire())
            self._since = asyncio.get_running_loop().time()
        return self._connection

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            await self.give_back()

    @property
    def is_held(self) -> bool:
        """Whether there is a connection."""
        return self._connection is not None

    @property
    def is_due(self) -> bool:
        """Whether the connection had better be given back: it is gone, or it has been kept for long."""
        return self._connection is not None and (
            is_gone(self._connection)
            or asyncio.get_running_loop().time() - self._since > LONGEST_SECONDS
        )

    async def give_back(self) -> None:
        """Give the connection back, if there is one."""
        self._connection = None
        await self._borrowed.aclose()
