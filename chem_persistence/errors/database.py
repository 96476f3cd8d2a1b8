"""The errors of the database: its schema, its connections, and statements that it refuses."""

from chem_persistence.errors.values import ChemPersistenceError

__all__ = [
    "MigrationError",
    "StoreClosed",
    "StoreError",
    "StoreUnavailable",
    "UnsupportedServer",
]


class MigrationError(ChemPersistenceError):
    """The schema is not in a state that this library knows, nor can it be migrated to one."""


class UnsupportedServer(MigrationError):
    """The server is older than the oldest version on which the schema is valid."""

    def __init__(self, version: str, oldest: int) -> None:
        super().__init__(f"the server is PostgreSQL {version}; {oldest} or newer is needed")
        self.version = version
        self.oldest = oldest


class StoreError(ChemPersistenceError):
    """The database refused a statement.

    The driver's error is `__cause__`; `sqlstate` is its SQLSTATE, if it has one.
    """

    def __init__(self, reason: str, sqlstate: str | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.sqlstate = sqlstate


class StoreClosed(StoreError):
    """The store was closed by `aclose` and accepts no more appends; nothing was stored."""


class StoreUnavailable(StoreError):
    """The database cannot be reached, or only transient errors came, and no retry is left.

    It is not known whether the last attempt was stored: repeat the append with the same event ids.
    """
