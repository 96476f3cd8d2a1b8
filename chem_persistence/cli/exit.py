"""Run a command: every outcome has a documented exit code, and only a bug prints a traceback."""

import os
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from enum import IntEnum
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn, TextIO

import typer

from chem_persistence.cli.terminal.text import shown
from chem_persistence.errors import (
    ArtifactCorrupt,
    ArtifactNotFound,
    ChemPersistenceError,
    FlowArchived,
    FlowDiffers,
    HistoryLost,
    InvalidArgument,
    InvalidBundle,
    UnreadableEvent,
    UnreplayableEvent,
)

if TYPE_CHECKING:
    import asyncio

__all__ = [
    "BROKEN_PIPE",
    "ExitCode",
    "close_output",
    "prepare_output",
    "run",
    "run_app",
    "say_error",
]

STOPPED = 128
"""Plus the number of a signal, the exit code that shells report if the signal ended a process."""

BROKEN_PIPE = STOPPED + 13  # SIGPIPE, which Windows does not have

_COMPLETION = "_CHEM_PERSISTENCE_COMPLETE"
"""The variable by which a shell asks typer for completions."""

_VALIDATOR_SAYS = "Value error, "
"""The prefix that typer puts before the message of a ValueError that a parser raised."""

# some versions of typer contain click, others import it: this is the UsageError of either
_WrongUse: type[Exception] = typer.BadParameter.__mro__[1]


class ExitCode(IntEnum):
    """The exit codes of commands, besides 130 (SIGINT), 143 (SIGTERM) and 141 (closed pipe)."""

    WELL = 0  # done, and nothing is wrong
    FOUND = 1  # the command found a problem, a difference or a loss in the data
    WRONG_USE = 2  # an invalid option or name, or a file that cannot be read or written
    DATABASE = 3  # the database is unavailable, refuses, or has another version of the schema


def run_app(app: typer.Typer) -> int:
    """Run the command that the process's arguments name, and return its exit code."""
    prepare_output()
    if _COMPLETION in os.environ:
        # typer would import rich, only to remove markup from help texts that have none
        sys.modules["rich"] = None  # type: ignore[assignment]  # which means: cannot be imported
    try:
        code = app(prog_name="chem-persistence", standalone_mode=False) or ExitCode.WELL
        sys.stdout.flush()
    except BrokenPipeError:
        close_output()
        return BROKEN_PIPE
    except SystemExit as end:
        if not isinstance(end.__context__, BrokenPipeError):
            raise
        close_output()  # typer turned the error into an exit
        return BROKEN_PIPE
    except OSError as error:  # what typer itself prints, such as help, cannot be written
        say_error(error)
        close_output()
        return ExitCode.WRONG_USE
    except _WrongUse as error:
        return _say_wrong_use(error)
    return code


def _say_wrong_use(error: Exception) -> int:
    """Print a usage error, and the command whose help explains it."""
    if isinstance(error, typer.BadParameter):
        error.message = error.message.removeprefix(_VALIDATOR_SAYS)
    message = error.format_message() if hasattr(error, "format_message") else str(error)
    context = getattr(error, "ctx", None)
    path = "chem-persistence" if context is None else context.command_path
    say_error(f"{message} (try: {path} --help)")
    return ExitCode.WRONG_USE


def run(work: Callable[[], Awaitable[int]]) -> NoReturn:
    """Run a command and exit with its code; an expected error is printed as one line.

    Raises:
        typer.Exit: always, with the exit code.
    """
    raise typer.Exit(_exit_code(work))


def _exit_code(work: Callable[[], Awaitable[int]]) -> int:
    import anyio  # noqa: PLC0415 - help and completion start faster without it

    try:
        code = anyio.run(_until_signalled, work)
        sys.stdout.flush()
    except BrokenPipeError:
        close_output()
        return BROKEN_PIPE
    except (ChemPersistenceError, OSError) as error:
        say_error(error)
        _discard_unwritable_output()
        return _meaning(error)
    return code


def _meaning(error: Exception) -> ExitCode:
    match error:
        case InvalidArgument() | ArtifactNotFound() | FlowArchived():
            return ExitCode.WRONG_USE
        case ArtifactCorrupt() | HistoryLost() | UnreadableEvent() | UnreplayableEvent():
            return ExitCode.FOUND
        case InvalidBundle() | FlowDiffers():
            return ExitCode.FOUND
        case ChemPersistenceError():
            return ExitCode.DATABASE
        case _:  # the OSError of a file; that of a connection has become a StoreUnavailable
            return ExitCode.WRONG_USE


async def _until_signalled(work: Callable[[], Awaitable[int]]) -> int:
    """Await the work; SIGINT and SIGTERM cancel it, so that it releases what it holds.

    The event loop's own handling of signals ends by setting Python's handler for SIGINT, which
    raises KeyboardInterrupt. Here the previous handlers are restored directly, so that no signal
    meets Python's own in between.
    """
    import asyncio  # noqa: PLC0415 - help and completion start faster without it

    import anyio  # noqa: PLC0415

    loop, scope = asyncio.get_running_loop(), anyio.CancelScope()
    code = stopped_by = 0

    def stop(number: int, _frame: FrameType | None) -> None:
        nonlocal stopped_by
        stopped_by = number
        loop.set_exception_handler(_ignore)
        loop.call_soon_threadsafe(scope.cancel)

    previous = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with scope:
            code = await work()
    except Exception:
        if not stopped_by:
            raise
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    if stopped_by:
        if stopped_by == signal.SIGINT and sys.stderr.isatty():
            sys.stderr.write("\n")  # the terminal has printed ^C
        return STOPPED + stopped_by
    return code


def _ignore(_loop: "asyncio.AbstractEventLoop", _context: Mapping[str, Any]) -> None:
    """Drop the errors of the driver's own tasks, which were cancelled."""


def prepare_output() -> None:
    """Make both streams accept every text, even where the shell has closed them (`>&-`)."""
    sys.stdout = _unless_closed(sys.stdout)
    sys.stderr = _unless_closed(sys.stderr)
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, ValueError):
            stream.reconfigure(errors="backslashreplace")  # type: ignore[attr-defined]


def _unless_closed(stream: TextIO | None) -> TextIO:
    if stream is not None:
        return stream
    null = os.open(os.devnull, os.O_WRONLY)  # open until the process ends
    return open(null, "w", encoding="utf-8", closefd=False)


def say_error(error: Exception | str) -> None:
    """Print an error as one line on standard error, with its control characters escaped."""
    text = " ".join(_text(error).split())
    with suppress(OSError):
        typer.echo(f"error: {shown(text)}", err=True)


def _text(error: Exception | str) -> str:
    """Return an error's message; of an OSError the file and the reason, without its number."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror if error.filename is None else f"{error.filename}: {error.strerror}"
    return str(error)


def _discard_unwritable_output() -> None:
    """Discard output that a full disk refused: the interpreter would write it again at its end."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        close_output()


def close_output() -> None:
    """Redirect standard output, whose reader is gone, to the null device: flushing cannot fail."""
    with suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)
