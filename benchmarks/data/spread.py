"""Medians over rounds, with their spread."""

import statistics
from collections.abc import Iterable, Sequence

import msgspec

__all__ = ["Spread", "percentile", "spread"]


class Spread(msgspec.Struct, frozen=True):
    """The median of some rounds, with the lowest and the highest value."""

    median: float
    low: float
    high: float

    def text(self, form: str = ".2f") -> str:
        """Write `median (low..high)`."""
        return f"{self.median:{form}} ({self.low:{form}}..{self.high:{form}})"

    def scaled(self, factor: float) -> "Spread":
        """Return the same spread in another unit."""
        return Spread(self.median * factor, self.low * factor, self.high * factor)


def spread(values: Iterable[float]) -> Spread:
    """Summarise the values of the rounds; there must be at least one."""
    found = list(values)
    return Spread(statistics.median(found), min(found), max(found))


def percentile(ordered: Sequence[float], fraction: float) -> float:
    """Return a percentile of values in ascending order, or 0 if there are none."""
    return ordered[min(int(len(ordered) * fraction), len(ordered) - 1)] if ordered else 0.0
