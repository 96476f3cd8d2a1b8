"""The progress of long work, on standard error, so that the output stays readable by programs."""

import sys
from types import TracebackType
from typing import TYPE_CHECKING, Self, TextIO

if TYPE_CHECKING:
    from rich.progress import Progress

__all__ = ["Work"]

ROWS_A_LINE = 100_000
LONGEST_BAR = 24
BESIDE = 16
"""The width of the remaining time and the gaps: a line must not wrap, or it cannot be erased."""


class Work:
    """A bar with the remaining time on a terminal; elsewhere a line for every `a_line` items.

    `total` is the number of items at the beginning; more may be added. `participle` says what was
    done to them, and `nouns` what they are.
    """

    def __init__(
        self,
        participle: str,
        nouns: str,
        total: int,
        *,
        a_line: int = ROWS_A_LINE,
        output: TextIO | None = None,
    ) -> None:
        self._participle = participle
        self._nouns = nouns
        self._total = total
        self._a_line = a_line
        self._output = sys.stderr if output is None else output
        self._lines = 0
        self._bar: Progress | None = None
        if self._output.isatty():
            from rich import console as of_rich  # noqa: PLC0415 - rich is slow
            from rich import progress  # noqa: PLC0415

            console = of_rich.Console(file=self._output)
            room = console.width - len(self._said(total, total)) - BESIDE
            columns = (
                progress.BarColumn(bar_width=max(1, min(LONGEST_BAR, room))),
                progress.TextColumn("{task.description}"),
                progress.TimeRemainingColumn(),
                progress.TextColumn("left", style="dim"),
            )
            self._bar = progress.Progress(*columns, console=console, transient=True)
            self._task = self._bar.add_task("", total=total)

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self,
        _class: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def show(self, done: int) -> None:
        """Show that `done` items are done."""
        total = max(self._total, done)
        said = self._said(done, total)
        if self._bar is not None:
            self._bar.update(self._task, completed=done, total=total, description=said)
        elif done // self._a_line > self._lines:
            self._output.write(f"{said}, {total - done:,} left\n")
            self._output.flush()
        self._lines = done // self._a_line

    def _said(self, done: int, total: int) -> str:
        return f"{done:,} of {total:,} {self._nouns} {self._participle}"
