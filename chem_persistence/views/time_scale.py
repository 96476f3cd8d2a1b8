"""Where on the timeline a moment stands: to scale while steps run, shortened where nothing does.

A person may answer after three days what a step asked after three seconds; to one scale the steps would be a hair's breadth. So a
pause, in which no attempt is known to run, is drawn as long as a tenth of all running time at most, and marked.
"""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from itertools import pairwise

import msgspec

__all__ = ["Interval", "Pause", "TimeScale"]

LONGEST_PAUSE = 0.1
"""Of the running time."""


class Interval(msgspec.Struct, frozen=True, order=True):
    """From `begin` to `end`."""

    begin: datetime
    end: datetime


class Pause(msgspec.Struct, frozen=True):
    """A shortened pause: where it is drawn, in percent, and how long it was."""

    begin: float
    end: float
    length: timedelta


class TimeScale:
    """Maps the moments from `begin` to `end` to 0 to 100 percent; `running` are the times in which attempts ran."""

    def __init__(self, begin: datetime, end: datetime, running: Iterable[Interval]) -> None:
        self.begin = begin
        self._moments, lengths, shortened = _segments(begin, end, _joined(running, begin, end))
        total = sum(lengths) or 1.0
        self._places = [0.0]
        for length in lengths:
            self._places.append(self._places[-1] + 100 * length / total)
        self.pauses = tuple(
            Pause(
                self._places[index],
                self._places[index + 1],
                self._moments[index + 1] - self._moments[index],
            )
            for index in shortened
        )

    def place(self, ts: datetime) -> float:
        """Give a moment's place in percent; what is outside stands at the edge."""
        index = bisect_right(self._moments, ts) - 1
        if index < 0:
            return 0.0
        if index >= len(self._moments) - 1:
            return self._places[-1]
        begin, end = self._moments[index], self._moments[index + 1]
        share = (ts - begin) / (end - begin)
        return self._places[index] + share * (self._places[index + 1] - self._places[index])

    def elapsed(self, place: float) -> timedelta:
        """Give the time from the beginning to a place."""
        for (low, high), (begin, end) in zip(
            pairwise(self._places), pairwise(self._moments), strict=True
        ):
            if place <= high and high > low:
                return begin - self.begin + (end - begin) * ((place - low) / (high - low))
        return self._moments[-1] - self.begin


def _joined(intervals: Iterable[Interval], begin: datetime, end: datetime) -> list[Interval]:
    """Give the intervals in order, those that overlap as one, cut to the whole."""
    joined: list[Interval] = []
    for interval in sorted(intervals):
        low, high = max(begin, interval.begin), min(end, interval.end)
        if low >= high:
            continue
        if joined and low <= joined[-1].end:
            joined[-1] = Interval(joined[-1].begin, max(joined[-1].end, high))
        else:
            joined.append(Interval(low, high))
    return joined


def _segments(
    begin: datetime, end: datetime, running: Sequence[Interval]
) -> tuple[list[datetime], list[float], list[int]]:
    """Give the moments at which running begins and ends, how long to draw what is between, and which are shortened."""
    busy = sum((interval.end - interval.begin).total_seconds() for interval in running)
    longest = LONGEST_PAUSE * busy if busy else float("inf")
    moments, lengths, shortened = [begin], list[float](), list[int]()

    def go_on(moment: datetime, most: float) -> None:
        length = (moment - moments[-1]).total_seconds()
        if length <= 0:
            return
        if length > most:
            shortened.append(len(lengths))
        lengths.append(min(length, most))
        moments.append(moment)

    for interval in running:
        go_on(interval.begin, longest)
        go_on(interval.end, float("inf"))
    go_on(end, longest)
    return moments, lengths, shortened
