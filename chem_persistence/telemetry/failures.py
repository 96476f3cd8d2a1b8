"""What is told of an error: its class and its SQLSTATE, never its text, which may quote payloads."""

from asyncio import CancelledError
from collections.abc import Mapping

from chem_persistence.errors import FlowAwaitsUser, StepRaised
from chem_persistence.telemetry.names import ERROR_TYPE, RESPONSE_STATUS_CODE

__all__ = ["error_class", "failure_attributes", "failure_cause", "is_expected"]


def error_class(error: BaseException) -> str:
    """Name an error's class, with its module unless that is Python's or the library's own."""
    cls = type(error)
    if cls.__module__ in {"builtins", "chem_persistence.errors"}:
        return cls.__qualname__
    return f"{cls.__module__}.{cls.__qualname__}"


def failure_cause(error: BaseException) -> str:
    """Name why a call of the database failed: its SQLSTATE if the server gave one, else its class."""
    return getattr(error, "sqlstate", None) or error_class(error)


def failure_attributes(error: BaseException) -> Mapping[str, str]:
    """Describe a failure; of a step that raised, what it raised."""
    if isinstance(error, StepRaised) and error.__cause__ is not None:
        error = error.__cause__
    attributes = {ERROR_TYPE: error_class(error)}
    sqlstate = getattr(error, "sqlstate", None)
    return attributes if sqlstate is None else {**attributes, RESPONSE_STATUS_CODE: sqlstate}


def is_expected(error: BaseException) -> bool:
    """Say whether work that ends with this has not gone wrong: it was cancelled, or waits for a person."""
    return isinstance(error, CancelledError | FlowAwaitsUser)
