"""The time axis of a flow: to scale while attempts run, shortened where none is known to.

A person may answer after three days what a step asked after three seconds; on a linear axis the
steps could not be seen. So a pause, in which no attempt is known to run, is drawn at most as long
as a tenth of all running time, and marked.
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from itertools import pairwise

import msgspec

from chem_persistence.domain.flow_state import FlowState
from chem_persistence.views.flow_view import AttemptOutcome, AttemptView, StepView

__all__ = ["COMPLETE_OUTCOMES", "Interval", "Pause", "TimeScale", "flow_scale", "is_unanswered"]

LONGEST_PAUSE = 0.1
"""As a share of the running time."""

COMPLETE_OUTCOMES = frozenset(
    {AttemptOutcome.FINISHED, AttemptOutcome.FAILED, AttemptOutcome.ASKED}
)
"""The outcomes of attempts that are known to have run until their end; a superseded one is not."""


TICK_DISTANCE, TICK_SPAN = 20, 9
"""Where ticks are wanted, and how far from there one may be, in percent of the axis."""

LEAST_DISTANCE = 16
"""So that the texts of two ticks do not overlap, in percent of the axis."""

MOST_TICKS = 5
"""Of an axis without pauses, besides 0."""

_MICROSECONDS = (
    *(digit * 10**power for power in range(6) for digit in (1, 2, 5)),
    *(seconds * 10**6 for seconds in (1, 2, 5, 10, 15, 30)),
    *(minutes * 60 * 10**6 for minutes in (1, 2, 5, 10, 15, 30)),
    *(hours * 3_600 * 10**6 for hours in (1, 2, 3, 6, 12)),
    *(digit * 10**power * 86_400 * 10**6 for power in range(7) for digit in (1, 2, 5)),
)
"""The units of which a tick is a multiple, ascending."""


class Interval(msgspec.Struct, frozen=True, order=True):
    """The time from `begin` to `end`."""

    begin: datetime
    end: datetime


class Pause(msgspec.Struct, frozen=True):
    """A shortened pause: from `begin` to `end` percent of the axis; `length` is its true length."""

    begin: float
    end: float
    length: timedelta


class TimeScale:
    """Map the times from `begin` to `end` to 0 to 100 percent; attempts ran in `running`."""

    def __init__(self, begin: datetime, end: datetime, running: Iterable[Interval]) -> None:
        self.begin = begin
        self.end = end
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
        """Return where on the axis a time is, in percent; one outside of it is at its edge."""
        index = bisect_right(self._moments, ts) - 1
        if index < 0:
            return 0.0
        if index >= len(self._moments) - 1:
            return self._places[-1]
        begin, end = self._moments[index], self._moments[index + 1]
        share = (ts - begin) / (end - begin)
        return self._places[index] + share * (self._places[index + 1] - self._places[index])

    def ticks(self) -> list[tuple[float, timedelta]]:
        """Return round times since the beginning, and where on the axis they are, in percent.

        Without pauses they are multiples of one unit. With a shortened pause such times would not
        be evenly spaced; then there is one about every 20 %: of the times near that point, the one
        that is a multiple of the largest unit.
        """
        ticks = [(0.0, timedelta())]
        if not self.pauses:
            span = (self.end - self.begin) // timedelta(microseconds=1)
            unit = next((unit for unit in _MICROSECONDS if unit * MOST_TICKS >= span), span + 1)
            for microseconds in range(unit, span + 1, unit):
                elapsed = timedelta(microseconds=microseconds)
                ticks.append((self.place(self.begin + elapsed), elapsed))
            return ticks
        for wanted in range(TICK_DISTANCE, 101, TICK_DISTANCE):
            low = self.elapsed(wanted - TICK_SPAN)
            high = self.elapsed(min(wanted + TICK_SPAN, 100))
            elapsed = _roundest(low, self.elapsed(wanted), high)
            place = self.place(self.begin + elapsed)
            if place - ticks[-1][0] >= LEAST_DISTANCE:
                ticks.append((place, elapsed))
        return ticks

    def elapsed(self, place: float) -> timedelta:
        """Return the time from the beginning to a point on the axis, given in percent."""
        for (low, high), (begin, end) in zip(
            pairwise(self._places), pairwise(self._moments), strict=True
        ):
            if place <= high and high > low:
                return begin - self.begin + (end - begin) * ((place - low) / (high - low))
        return self._moments[-1] - self.begin


def flow_scale(
    steps: Sequence[StepView],
    *,
    state: FlowState,
    began: datetime,
    last_at: datetime,
    seen_at: datetime,
) -> TimeScale:
    """Return the time scale of a flow, from its first event at `began` to its last at `last_at`.

    While an attempt runs, or waits for an answer or a time, the scale goes on to `seen_at`, when
    the flow was read. A superseded or open attempt is known to have run until its last signal, one
    that waited until it began to wait.
    """
    last_attempts = (step.attempts[-1] for step in steps if step.attempts)
    is_under_way = state not in {FlowState.COMPLETED, FlowState.CANCELLED} and any(
        attempt.ended is None or is_unanswered(attempt) for attempt in last_attempts
    )
    end = max(last_at, seen_at) if is_under_way else last_at
    return TimeScale(began, end, _running(steps))


def is_unanswered(attempt: AttemptView) -> bool:
    """Return whether an attempt asked a person and no answer has come."""
    return attempt.outcome is AttemptOutcome.ASKED and attempt.answered is None


def _roundest(low: timedelta, wanted: timedelta, high: timedelta) -> timedelta:
    """Return the multiple of the largest unit from `low` to `high` that is near `wanted`."""
    first, middle, last = (span // timedelta(microseconds=1) for span in (low, wanted, high))
    for unit in reversed(_MICROSECONDS):
        multiple = min(max(round(middle / unit), -(-first // unit)), last // unit) * unit
        if first <= multiple <= last:
            return timedelta(microseconds=multiple)
    return wanted


def _running(steps: Sequence[StepView]) -> Iterator[Interval]:
    for step in steps:
        for attempt in step.attempts:
            is_complete = attempt.outcome in COMPLETE_OUTCOMES
            known_until = attempt.ended if is_complete else attempt.last_sign
            if known_until:
                yield Interval(attempt.began, known_until)


def _joined(intervals: Iterable[Interval], begin: datetime, end: datetime) -> list[Interval]:
    """Return the intervals in order, cut to `begin` and `end`, with overlapping ones merged."""
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
    """Divide the axis where running begins and ends.

    Returns the times that divide it, the length to draw between each two of them in seconds, and
    the indexes of the lengths that are shortened.
    """
    busy = sum((interval.end - interval.begin).total_seconds() for interval in running)
    longest = LONGEST_PAUSE * busy if busy else float("inf")
    moments, lengths, shortened = [begin], list[float](), list[int]()

    def add_segment(moment: datetime, most: float) -> None:
        length = (moment - moments[-1]).total_seconds()
        if length <= 0:
            return
        if length > most:
            shortened.append(len(lengths))
        lengths.append(min(length, most))
        moments.append(moment)

    for interval in running:
        add_segment(interval.begin, longest)
        add_segment(interval.end, float("inf"))
    add_segment(end, longest)
    return moments, lengths, shortened
