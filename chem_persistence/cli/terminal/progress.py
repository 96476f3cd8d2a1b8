"""How far long work is, on standard error: the output stays what a program can read."""

import sys
from types import TracebackType
from typing import Self, TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

__all__ = ["Work"]

ROWS_A_LINE = 100_000
LONGEST_BAR = 24
BESIDE = 16
"""Characters of the time that is left, and of the gaps: a line that a terminal wraps could not be taken away again."""


class Work:
    """A bar with the time that is left, on a terminal; elsewhere, as in a log file, a line for every so many done.

    `total` of the `nouns` are there when it begins; more may come meanwhile. `participle` is what was done to them.
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
            console = Console(file=self._output)
            room = console.width - len(self._said(total, total)) - BESIDE
            said, left = TextColumn("{task.description}"), TextColumn("left", style="dim")
            columns = (
                BarColumn(bar_width=max(1, min(LONGEST_BAR, room))),
                said,
                TimeRemainingColumn(),
                left,
            )
            self._bar = Progress(*columns, console=console, transient=True)
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
        """Say what is done."""
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
