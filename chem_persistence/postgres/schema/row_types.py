"""The types of the rows that an append sends, which the driver is asked to take as bytes.

The driver makes an array of rows from tuples, after a query for the types that takes 16 to 36 ms.
Its public `set_type_codec` takes other codecs, but refuses arrays. So this module, and no other,
calls what that function calls; `tests/postgres/schema/test_row_types.py` fails when the driver
changes there.

A type has another number in each schema and database. So each connection asks for the numbers
before its first append, and again once they have changed. The writers of a store ask together with
that whether the log is distributed.
"""

from typing import Any

import asyncpg
import msgspec

from chem_persistence.postgres.connection.failures import OutcomeUnknown
from chem_persistence.postgres.connection.ports import Connection
from chem_persistence.postgres.schema.distribution import is_distributed
from chem_persistence.postgres.schema.statements import statement

__all__ = ["OUTDATED", "RowTypes", "look_at_log"]

DESCRIBE_LOG = statement("events/describe_log")

OUTDATED = (
    asyncpg.UndefinedFunctionError,
    asyncpg.UndefinedObjectError,
    asyncpg.DataError,
    asyncpg.InternalServerError,
    OutcomeUnknown,
)
"""The errors of an append on a connection that knows other types than the database has."""


UUID_ARRAY = {
    "oid": 2951,
    "ns": "pg_catalog",
    "name": "_uuid",
    "kind": b"b",
    "basetype": None,
    "elemtype": 2950,
    "elemdelim": b",",
    "range_subtype": None,
    "attrtypoids": None,
    "attrnames": None,
    "basetype_name": None,
    "elemtype_name": "uuid",
}
"""The row of pg_type that the driver asks for: it knows `uuid`, and not `uuid[]`. PostgreSQL's own
types have the same numbers everywhere (src/include/catalog/pg_type.dat)."""


class RowTypes(msgspec.Struct):
    """Whether a connection knows the types, and so sends rows; None until it has asked."""

    protocol: Any
    """The driver's own, of the connection."""
    are_known: bool | None = None
    numbers: list[int] = []

    async def ask(self, connection: Connection) -> None:
        """Find out the types of the parameters of `append_rows`."""
        (row,) = await connection.fetch(DESCRIBE_LOG)
        self.know(row["row_types"])

    def know(self, numbers: list[int] | None) -> None:
        """Register the types with the driver, as `describe_log` returns them."""
        self.numbers = numbers or []
        settings = self.protocol.get_settings()
        for number in self.numbers:
            settings.add_python_codec(
                number, f"rows_{number}", "", [], "scalar", bytes, bytes, "binary"
            )
        self.know_uuids()
        self.are_known = bool(self.numbers)

    def know_uuids(self) -> None:
        """Describe `uuid[]` to the driver, which forgets that whenever it is given another codec.

        Else it asks the server, once a connection, by four statements.
        """
        self.protocol.get_settings().register_data_types([UUID_ARRAY])

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


async def look_at_log(connection: Connection) -> bool:
    """Return whether the log is distributed, and find out the types of its rows on the way.

    It is one statement; two on a server with Citus.

    Raises:
        asyncpg.PostgresError: the catalog could not be read.
    """
    (row,) = await connection.fetch(DESCRIBE_LOG)
    types: RowTypes | None = getattr(connection, "row_types", None)
    if types is not None and types.are_known is None:
        types.know(row["row_types"])
    return bool(row["has_citus"]) and await is_distributed(connection)
