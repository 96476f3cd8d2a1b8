"""A provider that lends one connection, with the transaction that a test has begun on it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypeAlias

import asyncpg

__all__ = ["Lender"]

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"


class Lender:
    """A provider of one connection."""

    def __init__(self, connection: object) -> None:
        self._connection = connection

    @asynccontextmanager
    async def acquire(self) -> AsyncIterator[Connection]:
        yield self._connection  # type: ignore[misc]
