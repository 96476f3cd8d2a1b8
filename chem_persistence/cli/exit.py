"""How a command ends: with a documented exit code, and never with a traceback for what is no bug."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import suppress
from enum import IntEnum
from typing import Any, NoReturn, TextIO

import anyio
import typer

from chem_persistence.cli.terminal.escaping import shown
from chem_persistence.errors import (
    ArtifactCorrupt,
    ArtifactNotFound,
    ChemPersistenceError,
    InvalidArgument,
    UnreadableEvent,
    UnreplayableEvent,
)

__all__ = ["BROKEN_PIPE", "ExitCode", "close_output", "prepare_output", "run", "say_error"]

STOPPED = 128
"""What a shell adds to a signal's number."""

BROKEN_PIPE = STOPPED + 13  # SIGPIPE, which Windows does not have


class ExitCode(IntEnum):
    """What a command's end says. Beyond these: 130 and 143 (stopped by SIGINT or SIGTERM), 141 (nobody reads the output)."""

    WELL = 0
    FOUND = 1
    WRONG_USE = 2
    DATABASE = 3


def run(work: Callable[[], Awaitable[int]]) -> NoReturn:
    """Run a command to its exit code; a user's mistake and a database's trouble are one line."""
    raise typer.Exit(_exit_code(work))


def _exit_code(work: Callable[[], Awaitable[int]]) -> int:
    try:
        code = anyio.run(_until_signalled, work)
        sys.stdout.flush()
    except BrokenPipeError:
        close_output()
        return BROKEN_PIPE
    except KeyboardInterrupt:
        return STOPPED + signal.SIGINT
    except (ChemPersistenceError, OSError) as error:
        say_error(error)
        _give_up_what_cannot_be_written()
        return _meaning(error)
    return code


def _meaning(error: Exception) -> ExitCode:
    match error:
        case InvalidArgument() | ArtifactNotFound():
            return ExitCode.WRONG_USE
        case ArtifactCorrupt() | UnreadableEvent() | UnreplayableEvent():
            return ExitCode.FOUND
        case ChemPersistenceError():
            return ExitCode.DATABASE
        case _:  # a file; what concerns the database is a StoreUnavailable by now
            return ExitCode.WRONG_USE


async def _until_signalled(work: Callable[[], Awaitable[int]]) -> int:
    """Await the work; SIGINT and SIGTERM cancel it, so that it gives back what it holds."""
    code, failure = 0, None

    async def stop_on_signal(
        signals: AsyncIterator[signal.Signals], scope: anyio.CancelScope
    ) -> None:
        nonlocal code
        async for number in signals:
            code = STOPPED + number
            asyncio.get_running_loop().set_exception_handler(_say_nothing)
            scope.cancel()

    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with anyio.create_task_group() as group:
            with anyio.CancelScope() as scope:
                group.start_soon(stop_on_signal, signals, scope)
                try:
                    code = await work()
                except Exception as error:  # noqa: BLE001 - raised below, outside of the group, which would wrap it
                    failure = error
            group.cancel_scope.cancel()
    if failure is not None:
        raise failure
    return code


def _say_nothing(_loop: asyncio.AbstractEventLoop, _context: Mapping[str, Any]) -> None:
    """Leave out what becomes of the driver's own tasks when it is stopped in the middle of one."""


def prepare_output() -> None:
    """Make both streams able to take every text, also where the shell has closed them (`>&-`): nobody reads it then."""
    sys.stdout = _unless_closed(sys.stdout)
    sys.stderr = _unless_closed(sys.stderr)
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, ValueError):
            stream.reconfigure(errors="backslashreplace")  # type: ignore[attr-defined]


def _unless_closed(stream: TextIO | None) -> TextIO:
    if stream is not None:
        return stream
    nothing = os.open(os.devnull, os.O_WRONLY)  # for as long as the program runs
    return open(nothing, "w", encoding="utf-8", closefd=False)


def say_error(error: Exception | str) -> None:
    """Say it in one line on standard error, in which nothing can write on the terminal what it likes."""
    text = " ".join(_text(error).split())
    with suppress(OSError):
        typer.echo(f"error: {shown(text)}", err=True)


def _text(error: Exception | str) -> str:
    """Say what the error says; of a file its name and what is the matter, without a number."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror if error.filename is None else f"{error.filename}: {error.strerror}"
    return str(error)


def _give_up_what_cannot_be_written() -> None:
    """Leave nothing in the buffer of a full disk, which the interpreter would try to write again at its end."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        close_output()


def close_output() -> None:
    """Give up standard output, whose reader is gone, so that the interpreter does not complain at its end."""
    with suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)
