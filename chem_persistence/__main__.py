"""Run the command line: `python -m chem_persistence`, or `chem-persistence`."""

import os
import signal
import sys
from types import FrameType

__all__ = ["main"]

STOPPED = 128
"""What a shell adds to the number of a signal that ended a process."""

WRONG_USE = 2


def main() -> int:
    """Run the command line and return its exit code: 2 if a package that it needs is missing.

    From here to the end of the process Ctrl-C ends it with exit code 130, without a traceback.
    While a command works, `cli.exit` cancels the command instead, so that it releases what it
    holds.
    """
    signal.signal(signal.SIGINT, _end)
    try:
        # imported here, for Ctrl-C while they are imported, and because typer may be missing
        from chem_persistence.cli.app import app  # noqa: PLC0415
        from chem_persistence.cli.exit import run_app  # noqa: PLC0415
    except ModuleNotFoundError as error:
        missing = f"the command line needs the package {error.name}"
        sys.stderr.write(f"error: {missing}: pip install 'chem-persistence[cli]'\n")
        return WRONG_USE
    return run_app(app)


def _end(number: int, _frame: FrameType | None) -> None:
    """End the process at once: no command is at work, so nothing has to be released."""
    if os.isatty(2):
        os.write(2, b"\n")  # the terminal has printed ^C, and the prompt belongs on the next line
    os._exit(STOPPED + number)


if __name__ == "__main__":
    sys.exit(main())
