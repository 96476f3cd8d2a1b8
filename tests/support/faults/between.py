"""A connection whose statements pass through a function of the test, in their order."""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Self, TypeAlias, cast

import asyncpg

from chem_persistence.postgres.connection.jsonb import pass_jsonb_as_bytes
from chem_persistence.postgres.schema.row_types import RowTypes

__all__ = ["Between", "ConnectionBetween", "Rows", "fails_after", "is_an_append"]

if TYPE_CHECKING:
    DriverConnection = asyncpg.Connection[asyncpg.Record]
else:
    DriverConnection = asyncpg.Connection

Rows: TypeAlias = "list[asyncpg.Record]"

Between: TypeAlias = Callable[[str, Callable[[], Awaitable[Rows]]], Awaitable[Rows]]
"""Is passed a statement and what runs it, and returns the rows that the caller gets, or raises."""


class ConnectionBetween(DriverConnection):
    """A connection of the driver; each `fetch` is awaited by `between`, once that is set."""

    between: Between | None = None
    row_types: RowTypes

    @classmethod
    async def to(cls, url: str) -> Self:
        """Connect to a database as the pools of the library do."""
        connection: Any = await asyncpg.connect(url, connection_class=cls)
        await pass_jsonb_as_bytes(connection)
        connection.row_types = RowTypes(connection._protocol)
        return cast("Self", connection)

    async def fetch(self, query: str, *args: Any, **options: Any) -> Any:
        """Run a statement, or let the test do that."""
        run = partial(super().fetch, query, *args, **options)
        return await (run() if self.between is None else self.between(query, run))


def is_an_append(query: str) -> bool:
    """Return whether a statement appends."""
    return "append_rows(" in query or "append_one(" in query


def fails_after(fails: Callable[[str], bool], error: Exception) -> Between:
    """Return what raises an error once a statement of such a text has been run."""

    async def between(query: str, run: Callable[[], Awaitable[Rows]]) -> Rows:
        rows = await run()
        if fails(query):
            raise error
        return rows

    return between
