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
    "LOST_STATEMENT",
    "ConnectionLost",
    "LastWord",
    "OutcomeUnknown",
    "ServerSilent",
    "cause_on",
    "heard",
    "is_lost",
    "is_transient",
    "is_unreadable_value",
    "is_worth_a_retry",
    "library_errors",
    "lost_and_refused",
    "may_have_committed",
    "outcome_of_commit",
    "translated",
]

LOST_STATEMENT = "26000"
"""invalid_sql_statement_name: the session has lost its prepared statements."""

_TRANSIENT_STATES = frozenset(
    {
        "40001",  # serialization_failure
        "40P01",  # deadlock_detected
        "53200",  # out_of_memory
        "53300",  # too_many_connections
        "55P03",  # lock_not_available
        "57P01",  # admin_shutdown
        "57P02",  # crash_shutdown
        "57P03",  # cannot_connect_now: starting up or shutting down
        "57P05",  # idle_session_timeout
        "25P03",  # idle_in_transaction_session_timeout
        "25P04",  # transaction_timeout
        LOST_STATEMENT,
    }
)
_ROLLED_BACK = frozenset({"40001", "40P01", "55P03"})
"""Those of the transient states that the server sends after it has ended the transaction."""

_CONNECTION_EXCEPTION = "08"
_PROTOCOL_VIOLATION = "08P01"

_FOREIGN_STATEMENTS = frozenset(
    {
        LOST_STATEMENT,  # another session of the server has the prepared statement
        "42P05",  # duplicate_prepared_statement: of another client
    }
)
_FOR_A_POOLER = "pass transaction_pooling=True to build_pool, or use a URL that bypasses it"
_INTERNAL_ERROR = "XX000"


class ConnectionLost(Exception):  # becomes StoreUnavailable before a caller sees it
    """The driver refused a call because the connection is already closed."""


class ServerSilent(TimeoutError):  # becomes StoreUnavailable before a caller sees it
    """The server has not answered for some seconds, and the connection was closed.

    `connecting` is true for a new connection: another one would not be answered either.
    """

    def __init__(self, seconds: float, *, connecting: bool = False) -> None:
        what = "a new connection" if connecting else "a statement"
        super().__init__(f"the server has not answered {what} for {seconds:.3g} s")
        self.connecting = connecting


class LastWord:
    """The error with which the server ended a session between two statements.

    The driver drops it. Format: ErrorResponse (PostgreSQL manual, sections 54.7 and 54.8).
    """

    __slots__ = ("error",)

    def __init__(self) -> None:
        self.error: asyncpg.PostgresError | None = None

    def keep(self, received: bytes) -> None:
        """Keep the error that ends the session, if the bytes received hold one."""
        severity = max(received.rfind(b"\0VFATAL\0"), received.rfind(b"\0VPANIC\0"))
        begin = received.rfind(b"E", 0, max(severity, 0))
        while begin >= 0:
            end = begin + 1 + int.from_bytes(received[begin + 1 : begin + 5], "big")
            if received[begin + 5 : begin + 6] == b"S" and severity < end <= len(received):
                parts = [part for part in bytes(received[begin + 5 : end]).split(b"\0") if part]
                fields = {chr(part[0]): part[1:].decode("utf-8", "replace") for part in parts}
                self.error = asyncpg.PostgresError.new(fields)
                return
            begin = received.rfind(b"E", 0, begin)


heard: dict[int, LastWord] = {}
"""The server's last errors, by the id of the connection lent: the pool reclaims a closed one."""


def cause_on(connection: Connection, error: Exception) -> Exception:
    """Return why a call on a connection failed, if the driver's `error` only says that it is over.

    That is the server's last error message if it is known, else `ConnectionLost`.
    """
    word = heard.get(id(connection)) or getattr(connection, "last_word", None)
    last = None if word is None else word.error
    match error:
        case asyncpg.InterfaceError() if is_lost(connection):
            return last or ConnectionLost()
        case asyncpg.InternalClientError():  # the driver has not noticed the end of the session
            return last or error
        case _:
            return error


class OutcomeUnknown(Exception):  # becomes StoreUnavailable before a caller sees it
    """The server failed internally while it committed; whether it did is not known."""

    sqlstate = _INTERNAL_ERROR


def outcome_of_commit(error: asyncpg.InternalServerError) -> Exception:
    """Return the error for an internal error of a statement that ended with a COMMIT.

    The coordinator of a Citus cluster raises XX000 if it loses a worker while it commits there: the
    worker may have committed. The subclasses, such as corrupt data, are refusals.
    """
    if error.sqlstate != _INTERNAL_ERROR:
        return error
    return OutcomeUnknown(f"at a COMMIT, which may have taken effect: {error}")


def is_transient(error: BaseException) -> bool:
    """Return whether the same call may succeed a moment later, on another connection."""
    match error:
        case asyncpg.PostgresError():
            state = error.sqlstate or ""
            if state == _PROTOCOL_VIOLATION:
                return _is_of_a_pooler(error)
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
        case ConnectionLost() | OutcomeUnknown() | OSError():  # TimeoutError is an OSError
            return True
        case _:
            return False


def is_worth_a_retry(error: BaseException) -> bool:
    """Return whether a retry within the next moments may help."""
    is_silent = isinstance(error, ServerSilent) and error.connecting
    return is_transient(error) and not is_silent


def may_have_committed(error: Exception) -> bool:
    """Return whether a statement may take effect although it has failed with this error."""
    if isinstance(error, asyncpg.InternalClientError):  # the driver did not understand the reply
        return True
    return is_transient(error) and getattr(error, "sqlstate", None) not in _ROLLED_BACK


def is_lost(connection: Connection) -> bool:
    """Return whether a borrowed connection is closed.

    The pool takes a closed connection back at once; the driver then raises where it is asked.
    """
    try:
        return connection.is_closed()
    except asyncpg.InterfaceError:
        return True


def is_unreadable_value(error: StoreError) -> bool:
    """Return whether the server refused because of a stored value: too large, or damaged."""
    state = error.sqlstate or ""
    return state.startswith(("54", "XX", "22"))  # program limit, internal or corrupted, data


def translated(error: Exception) -> Exception:
    """Return the library's error for the driver's; any other error is returned unchanged."""
    match error:
        case ChemPersistenceError():
            return error
        case _ if is_transient(error):
            return StoreUnavailable(_unavailable(error), getattr(error, "sqlstate", None))
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
        cause = error if connection is None else cause_on(connection, error)
        if cause is not error:
            cause.__cause__ = error
        named = translated(cause)
        if named is error:
            raise
        raise named from cause


def lost_and_refused(error: StoreError) -> StoreUnavailable:
    """Return the error for a refused retry: the outcome of the lost attempt is not known."""
    named = StoreUnavailable(
        f"the connection was lost during an attempt, and the retry was refused: {error.reason}; "
        "whether the first attempt took effect is not known",
        error.sqlstate,
    )
    named.__cause__ = error
    return named


def _is_of_a_pooler(error: asyncpg.PostgresError) -> bool:
    """Return whether PgBouncer made the error: unlike the server, it names no source file."""
    is_violation = error.sqlstate == _PROTOCOL_VIOLATION
    return is_violation and getattr(error, "server_source_filename", None) is None


def _unavailable(error: Exception) -> str:
    if isinstance(error, asyncpg.PostgresError) and _is_of_a_pooler(error):
        return (
            f"a pooler (PgBouncer) refused: {error}; if it pools transactions or refuses "
            f"search_path, {_FOR_A_POOLER}"
        )
    return f"the database is unavailable: {_described(error)}"


def _described(error: Exception) -> str:
    if isinstance(error, ServerSilent):
        return str(error)
    text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    if getattr(error, "sqlstate", None) in _FOREIGN_STATEMENTS:
        return f"{text}; if a pooler such as PgBouncer is in between, {_FOR_A_POOLER}"
    return text
