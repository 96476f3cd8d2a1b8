"""What the command `archive` is given."""

from pathlib import Path
from typing import NamedTuple

__all__ = ["ArchiveOptions"]


class ArchiveOptions(NamedTuple):
    """The flows, or their age, and how they are archived."""

    flows: list[str]
    older_than: str | None
    directory: Path
    actor: str
    batch: int
    wait: float
