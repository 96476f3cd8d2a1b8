"""The ports of the PostgreSQL store: a database connection, and the provider that lends it."""

from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

__all__ = ["Connection", "ConnectionProvider"]


class Connection(Protocol):
    """The part of a database connection that the store uses; asyncpg's connections have it."""

    async def execute(self, query: str, *args: Any) -> str:
        """Run a statement and return its command tag."""
        ...

    async def fetch(self, query: str, *args: Any) -> list[Any]:
        """Run a statement and return its rows."""
        ...

    def transaction(self, *, isolation: Any = None) -> AbstractAsyncContextManager[Any]:
        """Open a transaction that commits at the end of the block, or rolls back if it raises.

        Inside a transaction it is a savepoint. `isolation` is `read_committed`, ..., or None for
        the server's default.
        """
        ...

    def is_in_transaction(self) -> bool:
        """Return whether a transaction is open."""
        ...

    def is_closed(self) -> bool:
        """Return whether the connection is closed."""
        ...


class ConnectionProvider(Protocol):
    """The source of the store's connections, such as a pool."""

    def acquire(self) -> AbstractAsyncContextManager[Connection]:
        """Lend a connection for the length of a block; a broken one is not lent again."""
        ...
