"""What the PostgreSQL store asks of a database connection and of whoever lends it."""

from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

__all__ = ["Connection", "ConnectionProvider"]


class Connection(Protocol):
    """The part of a database connection that the store uses; asyncpg's connections have it."""

    async def execute(self, query: str, *args: Any) -> str:
        """Run a statement and give its status."""
        ...

    async def fetch(self, query: str, *args: Any) -> list[Any]:
        """Run a statement and give its rows."""
        ...

    def transaction(self, *, isolation: Any = None) -> AbstractAsyncContextManager[Any]:
        """Open a transaction that commits at the end of the block, and rolls back when the block raises.

        Inside a transaction it is a savepoint. `isolation` is `read_committed`, ..., or the server's default.
        """
        ...

    def is_in_transaction(self) -> bool:
        """Say whether a transaction is open."""
        ...

    def is_closed(self) -> bool:
        """Say whether the connection is gone."""
        ...


class ConnectionProvider(Protocol):
    """Where the store gets its connections from."""

    def acquire(self) -> AbstractAsyncContextManager[Connection]:
        """Lend a connection for the length of a block; it is given back healthy or thrown away."""
        ...
