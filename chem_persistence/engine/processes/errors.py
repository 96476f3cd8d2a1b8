"""Exceptions that cross the pipe between a process and its parent, without pickle.

An exception is made again on the other side if its class is found there, so that callers can catch
it by its class. Its description is kept with it, so that the log has the same in every case.
"""

from contextlib import suppress
from typing import Any

import msgspec

from chem_persistence.domain.events import StepError
from chem_persistence.engine.processes.address import Address, address_of, find_class

__all__ = [
    "ProcessTraceback",
    "RaisedInProcess",
    "SentError",
    "description_of",
    "raised_again",
    "sent_error",
]

_DESCRIPTION = "_chem_persistence_description"
_PLAIN = (str, int, float, bool, bytes, type(None))


class SentError(msgspec.Struct, frozen=True, tag=True):
    """An exception: its class, its arguments and attributes as far as they are plain values."""

    cls: Address
    arguments: tuple[Any, ...] | None
    attributes: dict[str, Any]
    described: StepError


class RaisedInProcess(Exception):
    """Stands for an exception whose class the parent cannot make, or that is not an `Exception`."""


class ProcessTraceback(Exception):
    """The traceback in the other process, shown as the cause of the exception."""

    def __str__(self) -> str:
        return f'\n"""\n{self.args[0]}"""'


def sent_error(error: BaseException, described: StepError) -> SentError:
    """Return what is sent of an exception."""
    plain = all(isinstance(argument, _PLAIN) for argument in error.args)
    attributes = {name: value for name, value in vars(error).items() if isinstance(value, _PLAIN)}
    return SentError(
        address_of(type(error)),
        tuple(error.args) if plain else None,
        attributes,
        described,
    )


def raised_again(sent: SentError) -> Exception:
    """Return the exception, with the description that it had where it was raised."""
    error = _made(sent)
    if error is None:
        error = RaisedInProcess(f"{sent.described.error_class}: {sent.described.message}")
    vars(error)[_DESCRIPTION] = sent.described
    error.__cause__ = ProcessTraceback(sent.described.traceback)
    return error


def description_of(error: BaseException) -> StepError | None:
    """Return the description that came with an exception from another process, or None."""
    found = getattr(error, _DESCRIPTION, None)
    return found if isinstance(found, StepError) else None


def _made(sent: SentError) -> Exception | None:
    """Return an exception of the same class, or None if it cannot be made or raised here.

    A coroutine cannot raise `StopIteration`; `KeyboardInterrupt` and `CancelledError` would mean
    that the parent itself was interrupted.
    """
    if sent.arguments is None:
        return None
    with suppress(Exception):
        cls = find_class(sent.cls)
        if not issubclass(cls, Exception) or issubclass(cls, StopIteration | StopAsyncIteration):
            return None
        error: Exception = cls.__new__(cls, *sent.arguments)
        with suppress(Exception):  # arguments of a constructor of its own are not in `args`
            error = cls(*sent.arguments)
        error.args = sent.arguments
        vars(error).update(sent.attributes)
        return error
    return None
