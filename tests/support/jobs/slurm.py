"""A step that Slurm does."""

from datetime import timedelta
from pathlib import Path
from typing import Any

from chem_persistence import Flow, RetryPolicy, flow
from chem_persistence.slurm import SlurmJob
from tests.support.leases.staff import Number

__all__ = ["Square", "square"]


class Square(SlurmJob[Number, Number]):
    """The second power of a number; `extra` are commands that come before, `after` after it."""

    id = "square"
    every = timedelta(milliseconds=100)
    settle = timedelta(milliseconds=300)
    extra = ""
    after = ""

    def __init__(self, folder: Path, **attributes: Any) -> None:
        self.folder = folder
        for name, value in attributes.items():
            setattr(self, name, value)

    def commands(self, number: Number) -> str:
        lines = ["echo run >> ../runs.txt", self.extra, f"echo $(({number.n} ** 2)) > square"]
        return "\n".join([*lines, self.after])

    def prepare(self, number: Number, folder: Path) -> None:
        (folder / "number").write_text(str(number.n), encoding="utf-8")

    def result(self, _number: Number, folder: Path) -> Number:
        return Number(int((folder / "square").read_text(encoding="utf-8")))

    def runs(self) -> int:
        """Return how often the commands of any job have begun."""
        runs = Path(self.folder) / "runs.txt"
        return len(runs.read_text(encoding="utf-8").splitlines()) if runs.exists() else 0


def square(
    folder: Path, attempts: int = 1, crashes: int = 3, **attributes: Any
) -> Flow[Number, Number]:
    retry = RetryPolicy(attempts=attempts, first=timedelta(0), crashes=crashes)
    return flow("square", Square(folder, retry=retry, **attributes))
