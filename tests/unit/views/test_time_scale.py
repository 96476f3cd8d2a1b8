"""The timeline is to scale while steps run, and shortens the pauses."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chem_persistence import (
    FlowCompleted,
    FlowEvent,
    FlowEventKind,
    PageLimits,
    StepFinished,
    StepSignal,
    StepStarted,
    UserInteractionProvided,
    UserInteractionRequested,
)
from chem_persistence.views.attempts import FlowAttempts
from chem_persistence.views.time_scale import Interval, TimeScale, flow_scale

BEGAN = datetime(2026, 11, 23, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return BEGAN + timedelta(seconds=seconds)


def scale(end: float, *running: tuple[float, float]) -> TimeScale:
    return TimeScale(BEGAN, at(end), [Interval(at(begin), at(last)) for begin, last in running])


def test_without_pauses_it_is_linear() -> None:
    drawn = scale(10, (0, 4), (4, 10))
    assert [drawn.place(at(seconds)) for seconds in (0, 1, 5, 10)] == pytest.approx(
        [0, 10, 50, 100]
    )
    assert drawn.pauses == ()


def test_a_long_pause_is_drawn_as_a_tenth_of_the_running_time() -> None:
    drawn = scale(1_000, (0, 5), (995, 1_000))
    assert drawn.place(at(5)) == pytest.approx(100 * 5 / 11)
    assert drawn.place(at(995)) == pytest.approx(100 * 6 / 11)
    assert [pause.length for pause in drawn.pauses] == [timedelta(seconds=990)]


def test_a_short_pause_is_to_scale() -> None:
    drawn = scale(10.5, (0, 5), (5.5, 10.5))
    assert drawn.place(at(5.5)) == pytest.approx(100 * 5.5 / 10.5)
    assert drawn.pauses == ()


def test_attempts_that_overlap_count_once() -> None:
    assert scale(10, (0, 8), (2, 10)).place(at(5)) == pytest.approx(50)


def test_a_flow_in_which_nothing_ran_is_linear() -> None:
    assert scale(10).place(at(5)) == pytest.approx(50)


def test_a_flow_of_one_moment_has_a_place() -> None:
    drawn = scale(0)
    assert drawn.place(BEGAN) == pytest.approx(0)
    assert drawn.elapsed(50) == timedelta()


def test_what_is_outside_stands_at_the_edge() -> None:
    drawn = scale(10, (0, 10))
    assert [drawn.place(at(-5)), drawn.place(at(50))] == pytest.approx([0, 100])


@given(
    st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 10**6)), max_size=8),
    st.integers(0, 10**6),
)
def test_later_stands_further_right_and_the_axis_says_when(
    runs: list[tuple[int, int]], end: int
) -> None:
    drawn = scale(end, *runs)
    moments = sorted({0, end, *(moment for run in runs for moment in run if moment <= end)})
    places = [drawn.place(at(moment)) for moment in moments]
    assert places == sorted(places)
    assert all(0 <= place <= 100.001 for place in places)
    for moment, place in zip(moments, places, strict=True):
        if end:
            assert drawn.elapsed(place).total_seconds() == pytest.approx(moment, abs=end / 10**6)


START = StepStarted(0, "embed")
FINISH = StepFinished(0, "embed", (), "f")
SIGNAL = StepSignal(0, "embed", "progress")
ASK = UserInteractionRequested(0, "embed", None, "which?")
ANSWER = UserInteractionProvided(0, "embed", 1, "h")
SEEN = 1_000


def scale_of(*timed: tuple[float, FlowEventKind]) -> TimeScale:
    """Return the scale of a flow whose events have these times, read after `SEEN` seconds."""
    attempts = FlowAttempts(PageLimits())
    events = [
        FlowEvent(
            seq=version,
            flow_id=UUID(int=1),
            version=version,
            event_id=UUID(int=2),
            ts=at(seconds),
            kind=fact,
        )
        for version, (seconds, fact) in enumerate(timed)
    ]
    for event in events:
        attempts.take(event)
    return flow_scale(
        attempts.steps(),
        state=attempts.state,
        began=BEGAN,
        last_at=events[-1].ts,
        seen_at=at(SEEN),
    )


@pytest.mark.parametrize(
    ("timed", "end"),
    [
        ([(0, START)], SEEN),
        ([(0, START), (1, FINISH)], 1),
        ([(0, START), (1, ASK)], SEEN),
        ([(0, START), (1, ASK), (2, ANSWER)], 2),
        ([(0, START), (1, FINISH), (2, FlowCompleted("f"))], 2),
        ([(0, START), (2, FlowCompleted("f"))], 2),
    ],
)
def test_the_scale_of_a_flow_goes_on_while_an_attempt_runs_or_waits(
    timed: list[tuple[float, FlowEventKind]], end: float
) -> None:
    assert scale_of(*timed).end == at(end)


def test_a_superseded_attempt_is_known_to_have_run_until_its_last_signal() -> None:
    drawn = scale_of((0, START), (4, SIGNAL), (100, START), (110, FINISH))
    assert [pause.length for pause in drawn.pauses] == [timedelta(seconds=96)]


def test_a_superseded_attempt_without_a_signal_is_a_pause() -> None:
    drawn = scale_of((0, START), (100, START), (110, FINISH))
    assert [pause.length for pause in drawn.pauses] == [timedelta(seconds=100)]


def numbers(scale: TimeScale) -> list[float]:
    """Return the times of the ticks in seconds."""
    return [elapsed.total_seconds() for _, elapsed in scale.ticks()]


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0, [0]),
        (0.000_003, [0, 0.000_001, 0.000_002, 0.000_003]),
        (0.937, [0, 0.2, 0.4, 0.6, 0.8]),
        (12.7, [0, 5, 10]),
        (132, [0, 30, 60, 90, 120]),
        (3_599, [0, 900, 1_800, 2_700]),
        (100_000, [0, 21_600, 43_200, 64_800, 86_400]),
        (86_400 * 365, [0, *(86_400 * 100 * number for number in (1, 2, 3))]),
    ],
)
def test_ticks_are_multiples_of_one_round_unit(seconds: float, expected: list[float]) -> None:
    scale = TimeScale(BEGAN, at(seconds), [Interval(BEGAN, at(seconds))])
    assert numbers(scale) == pytest.approx(expected)


@pytest.mark.parametrize("pause", [100.0, 7_321.0, 86_400 * 3.1, 86_400 * 400])
@pytest.mark.parametrize("run", [0.37, 3.3, 41.0])
def test_ticks_beside_shortened_pauses_are_round_and_do_not_overlap(
    run: float, pause: float
) -> None:
    last = at(2 * run + pause)
    running = [Interval(BEGAN, at(run)), Interval(at(run + pause), last)]
    scale = TimeScale(BEGAN, last, running)
    assert scale.pauses
    places = [place for place, _ in scale.ticks()]
    assert len(places) >= 4
    assert all(second - first >= 16 for first, second in pairwise(places))
    for place, elapsed in scale.ticks():
        low, high = scale.elapsed(max(0, place - 9)), scale.elapsed(min(100, place + 9))
        digits = str(elapsed // timedelta(microseconds=1)).rstrip("0")
        assert len(digits) <= len(str(high // timedelta(microseconds=1)))
        assert low <= elapsed <= high
