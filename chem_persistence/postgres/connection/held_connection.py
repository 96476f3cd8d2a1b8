"""A connection that is kept between calls, so that each of them need not borrow one."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack

from chem_persistence.postgres.connection.failures import is_lost
from chem_persistence.postgres.connection.ports import Connection, ConnectionProvider

__all__ = ["HeldConnection"]

LONGEST_SECONDS = 0.1
"""A connection is due after this time even in constant use, since others may wait for one."""


class HeldConnection:
    """A provider that lends one connection of `provider` again and again, until it is returned.

    A connection on which a call failed is returned at once. No call may change its session.
    """

    def __init__(self, provider: ConnectionProvider) -> None:
        self._acquire: Callable[[], AbstractAsyncContextManager[Connection]] = getattr(
            provider, "acquire_for_statements", provider.acquire
        )
        self._borrowed = AsyncExitStack()
        self.connection: Connection | None = None
        self.due_at = 0.0  # on the event loop's clock

    def acquire(self) -> "HeldConnection":
        """Lend the connection for the length of a block."""
        return self

    async def __aenter__(self) -> Connection:
        if self.connection is None:
            self.connection = await self._borrowed.enter_async_context(self._acquire())
            self.due_at = asyncio.get_running_loop().time() + LONGEST_SECONDS
        return self.connection

    async def __aexit__(self, _: object, error: BaseException | None, *__: object) -> None:
        if error is not None:
            await self.give_back(error)

    @property
    def is_due(self) -> bool:
        """Whether the connection should be returned: it is lost, or was held for long enough."""
        return self.connection is not None and (
            is_lost(self.connection) or asyncio.get_running_loop().time() > self.due_at
        )

    async def give_back(self, error: BaseException | None = None) -> None:
        """Return the connection to its provider, which is told the error of the last call on it."""
        self.connection = None
        kind, trace = (None, None) if error is None else (type(error), error.__traceback__)
        await self._borrowed.__aexit__(kind, error, trace)
