"""The driver's failures: which of them are transient, and the library's errors for them.

Failures are told apart by class and SQLSTATE (PostgreSQL manual, appendix A), never by their text.
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
from chem_persistence.postgres.connection.ports import Connection

__all__ = [
    "ConnectionLost",
    "is_lost",
    "is_transient",
    "library_errors",
    "lost_and_refused",
    "translated",
]

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
    """Return whether the same call may succeed a moment later, on another connection."""
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
            # The server ended an idle session, and the driver has not noticed it yet.
            return True
        case ConnectionLost() | OSError():  # TimeoutError is an OSError
            return True
        case _:
            return False


def is_lost(connection: Connection) -> bool:
    """Return whether a borrowed connection is closed.

    The pool takes a closed connection back at once; the driver then raises where it is asked.
    """
    try:
        return connection.is_closed()
    except asyncpg.InterfaceError:
        return True


def translated(error: Exception) -> Exception:
    """Return the library's error for the driver's; any other error is returned unchanged."""
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
def library_errors(connection: Connection | None = None) -> Iterator[None]:
    """Raise the library's errors for the driver's, which become their causes.

    With a `connection`, the driver's refusal to use it once it is closed counts as its loss.
    """
    try:
        yield
    except Exception as error:
        found: Exception = error
        is_refusal = isinstance(error, asyncpg.InterfaceError)
        if is_refusal and connection is not None and is_lost(connection):
            found = ConnectionLost()
            found.__cause__ = error
        named = translated(found)
        if named is error:
            raise
        raise named from found


def lost_and_refused(error: StoreError) -> StoreUnavailable:
    """Return the error for a refused retry: the outcome of the lost attempt is not known."""
    named = StoreUnavailable(
        f"the connection was lost during an attempt, and the retry was refused: {error.reason}; "
        "whether the first attempt took effect is not known",
        error.sqlstate,
    )
    named.__cause__ = error
    return named


def _described(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
