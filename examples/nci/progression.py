"""How far the screen is, while it runs."""

import math

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

__all__ = ["Progression"]


class Progression:
    """Shows the number of finished molecules: a bar on a terminal, else a line per tenth."""

    def __init__(self, console: Console, total: int) -> None:
        self._every = math.ceil(total / 10)
        self._total = total
        self._done = 0
        columns = (
            TextColumn("screening"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
        )
        self.bar = Progress(*columns, console=console, disable=not console.is_terminal)
        self._task = self.bar.add_task("screening", total=total)

    def reach(self, done: int) -> None:
        """Show that so many are done."""
        self.bar.update(self._task, completed=done)
        for count in range(self._done + 1, done + 1):
            if self.bar.disable and (count % self._every == 0 or count == self._total):
                print(f"{count}/{self._total} molecules", flush=True)
        self._done = max(done, self._done)
