"""The types of the rows that an append sends, which the driver is asked to take as bytes.

The driver makes an array of rows from tuples, after a query for the types that takes 16 to 36 ms.
Its public `set_type_codec` takes other codecs, but refuses arrays. So this module, and no other,
calls what that function calls; `tests/postgres/schema/test_row_types.py` fails when the driver
changes there.

A type has another number in each schema and database. So each connection asks for the numbers
before its first append, and again once they have changed.
"""

from typing import Any

import asyncpg
import msgspec

from chem_persistence.postgres.connection.failures import OutcomeUnknown
from chem_persistence.postgres.connection.ports import Connection
from chem_persistence.postgres.schema.statements import statement

__all__ = ["OUTDATED", "RowTypes"]

FIND_ROW_TYPES = statement("events/find_row_types")

OUTDATED = (
    asyncpg.UndefinedFunctionError,
    asyncpg.UndefinedObjectError,
    asyncpg.DataError,
    asyncpg.InternalServerError,
    OutcomeUnknown,
)
"""The errors of an append on a connection that knows other types than the database has."""


class RowTypes(msgspec.Struct):
    """Whether a connection knows the types, and so sends rows; None until it has asked."""

    protocol: Any
    """The driver's own, of the connection."""
    are_known: bool | None = None
    numbers: list[int] = []

    async def ask(self, connection: Connection) -> None:
        """Find out the types of the parameters of `append_rows`."""
        self.numbers = [row["type"] for row in await connection.fetch(FIND_ROW_TYPES)]
        settings = self.protocol.get_settings()
        for number in self.numbers:
            settings.add_python_codec(
                number, f"rows_{number}", "", [], "scalar", bytes, bytes, "binary"
            )
        self.are_known = bool(self.numbers)

    async def have_changed(self, connection: Any) -> bool:
        """Find out the types again, after an append failed; return whether they are others.

        Of a connection that cannot say, the append's own error is to be raised.
        """
        before = self.numbers
        try:
            await self.ask(connection)
            if self.numbers == before:
                return False
            await connection.reload_schema_state()  # the driver keeps statements with old types
        except (
            asyncpg.PostgresError,
            asyncpg.InterfaceError,
            asyncpg.InternalClientError,
            OSError,
        ):
            self.are_known = None
            return False
        return True
