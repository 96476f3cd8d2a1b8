"""Medians over rounds, with their spread."""

import statistics
from collections.abc import Iterable, Sequence

import msgspec

__all__ = ["Spread", "percentile", "spread"]


class Spread(msgspec.Struct, frozen=True):
    """The median of some rounds, the lowest and the highest of them."""

    median: float
    low: float
    high: float

    def text(self, form: str = ".2f") -> str:
        """Write `median (low..high)`."""
        return f"{self.median:{form}} ({self.low:{form}}..{self.high:{form}})"

    def scaled(self, factor: float) -> "Spread":
        """Give the same in another unit."""
        return Spread(self.median * factor, self.low * factor, self.high * factor)


def spread(values: Iterable[float]) -> Spread:
    """Sum up the values of the rounds, of which there is one at least."""
    found = list(values)
    return Spread(statistics.median(found), min(found), max(found))


def percentile(ordered: Sequence[float], fraction: float) -> float:
    """Pick from values in ascending order; 0 when there are none."""
    return ordered[min(int(len(ordered) * fraction), len(ordered) - 1)] if ordered else 0.0
