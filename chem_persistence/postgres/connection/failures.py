"""The one place where the driver's errors get the library's names.

SQLSTATEs: PostgreSQL manual, appendix A. Nothing is decided by the text of an error.
"""

import ssl
from collections.abc import Iterator
from contextlib import contextmanager

import asyncpg

from chem_persistence.errors import (
    ChemPersistenceError,
    InvalidDatabaseUrl,
    StoreError,
    StoreUnavailable,
)

__all__ = ["ConnectionLost", "is_transient", "library_errors", "translated"]

_TRANSIENT_STATES = frozenset(
    {
        "40001",  # serialization_failure
        "40P01",  # deadlock_detected
        "53300",  # too_many_connections
        "55P03",  # lock_not_available
        "57P01",  # admin_shutdown
        "57P02",  # crash_shutdown
        "57P03",  # cannot_connect_now: starting up or shutting down
        "57P05",  # idle_session_timeout
        "25P03",  # idle_in_transaction_session_timeout
    }
)
_CONNECTION_EXCEPTION = "08"


class ConnectionLost(Exception):  # becomes StoreUnavailable before a caller sees it
    """The driver refused a call because the connection is already closed."""


def is_transient(error: BaseException) -> bool:
    """Say whether the same call may succeed a moment later, on another connection."""
    match error:
        case asyncpg.PostgresError():
            state = error.sqlstate or ""
            return state in _TRANSIENT_STATES or state.startswith(_CONNECTION_EXCEPTION)
        case (
            ssl.SSLCertVerificationError()
            | asyncpg.ProtocolError()
            | asyncpg.TargetServerAttributeNotMatched()
        ):
            return False
        case asyncpg.InternalClientError():
            return (
                True  # the server has ended an idle session, and the connection has not noticed yet
            )
        case ConnectionLost() | OSError():  # TimeoutError is an OSError
            return True
        case _:
            return False


def translated(error: Exception) -> Exception:
    """Give the library's error for the driver's; an error that is not the driver's stays as it is."""
    match error:
        case ChemPersistenceError():
            return error
        case _ if is_transient(error):
            return StoreUnavailable(
                f"the database is unavailable: {_described(error)}",
                getattr(error, "sqlstate", None),
            )
        case asyncpg.ClientConfigurationError():
            return InvalidDatabaseUrl(str(error))
        case asyncpg.PostgresError():
            return StoreError(f"the database refused: {_described(error)}", error.sqlstate)
        case asyncpg.InterfaceError() | asyncpg.InternalClientError() | ssl.SSLError():
            return StoreError(f"the driver refused: {_described(error)}")
        case _:
            return error


@contextmanager
def library_errors() -> Iterator[None]:
    """Turn what the driver raises in the block into the library's errors, with the driver's as the cause."""
    try:
        yield
    except Exception as error:
        named = translated(error)
        if named is error:
            raise
        raise named from error


def _described(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
