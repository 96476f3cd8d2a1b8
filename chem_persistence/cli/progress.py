"""How far a verification is, on standard error: the output stays what a program can read."""

from typing import TextIO

from chem_persistence.postgres.verification import Extent, Progress

__all__ = ["ProgressLine"]

ROWS_A_LINE = 100_000


class ProgressLine:
    """One line that is written anew on a terminal; elsewhere, as in a log file, a line for every 100,000 rows."""

    def __init__(self, extent: Extent, output: TextIO) -> None:
        self._extent = extent
        self._output = output
        self._anew = output.isatty()
        self._lines = 0

    def show(self, progress: Progress) -> None:
        """Say what is done and how much is left."""
        done = progress.events + progress.artifacts
        if self._anew:
            self._output.write(
                f"\r{self._described(progress)}\x1b[K"
            )  # ECMA-48: erase to the end of the line
        elif done // ROWS_A_LINE > self._lines:
            self._output.write(f"{self._described(progress)}\n")
        self._lines = done // ROWS_A_LINE
        self._output.flush()

    def end(self) -> None:
        """Leave the line."""
        if self._anew:
            self._output.write("\n")

    def _described(self, progress: Progress) -> str:
        total, artifacts = self._extent.events, self._extent.artifacts
        left = max(0, total - progress.events) + max(0, artifacts - progress.artifacts)
        named = f", {progress.artifacts:,} of {artifacts:,} artifacts" if artifacts else ""
        return f"{progress.events:,} of {total:,} events{named} verified, {left:,} left"
