"""All that a run measured, as it is written to JSON and read again for plots."""

from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter

import msgspec

from benchmarks.callgrind.instructions import Instructions
from benchmarks.contestants.canonical import EncodingTimes
from benchmarks.contestants.imports import ImportTimes
from benchmarks.contestants.load import Slice
from benchmarks.data.spread import Spread, spread

__all__ = ["CPU", "P50", "P99", "RATE", "Figure", "Report"]

Figure = Callable[[Slice], float]

RATE: Figure = attrgetter("rate")
P50: Figure = attrgetter("p50")
P99: Figure = attrgetter("p99")
CPU: Figure = attrgetter("cpu")


class Report(msgspec.Struct, kw_only=True):
    """`slices` lists each task's slices by round; `failures` has the reason if there are none."""

    command: str
    facts: Mapping[str, str] = {}
    slices: dict[str, list[Slice]] = {}
    failures: dict[str, str] = {}
    written: Mapping[str, float] = {}
    grown_seconds: dict[str, float] = {}
    imports: ImportTimes | None = None
    encodings: dict[str, EncodingTimes] = {}
    instructions: Instructions | None = None
    why_not_counted: str = ""
    minutes: float = 0.0

    def spread_of(self, key: str, figure: Figure) -> Spread | None:
        """Return a figure of a task over the rounds, or None if it was not measured."""
        return spread(map(figure, self.slices[key])) if key in self.slices else None

    def ratio(self, key: str, other: str, figure: Figure) -> Spread | None:
        """Divide a figure of a task by that of another, round by round, if both were measured."""
        if key not in self.slices or other not in self.slices:
            return None
        pairs = zip(self.slices[key], self.slices[other], strict=True)
        return spread(figure(one) / max(figure(another), 1e-9) for one, another in pairs)

    def best_of(self, competitor: str) -> str | None:
        """Return the key of a competitor's fastest number of flows, or None without figures."""
        return self.best([key for key in self.slices if key.rpartition("/")[0] == competitor])

    def best(self, keys: Sequence[str]) -> str | None:
        """Return the key with the highest median of events per second, or None without figures."""
        rates = {key: measured.median for key in keys if (measured := self.spread_of(key, RATE))}
        return max(rates, key=lambda key: rates[key], default=None)

    def least(self, keys: Sequence[str], figure: Figure) -> str | None:
        """Return the key with the lowest median of a figure, or None without figures."""
        found = {key: measured.median for key in keys if (measured := self.spread_of(key, figure))}
        return min(found, key=lambda key: found[key], default=None)

    def why_missing(self, competitor: str) -> str:
        """Return why a competitor, or the last of its modes, has no figures."""
        reasons = [why for name, why in self.failures.items() if name.startswith(competitor)]
        return reasons[-1] if reasons else ""
