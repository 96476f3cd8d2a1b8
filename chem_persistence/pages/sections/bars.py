"""The bars of one step on the timeline, as SVG that stretches with the page: places are in percent."""

from collections.abc import Iterator

from chem_persistence.pages.html.markup import Html, element
from chem_persistence.views.flow_view import AttemptOutcome, AttemptView, StepView
from chem_persistence.views.time_scale import TimeScale
from chem_persistence.views.wording import duration

__all__ = ["OUTCOME_CLASSES", "step_bars"]

OUTCOME_CLASSES = {
    AttemptOutcome.FINISHED: "finished",
    AttemptOutcome.FAILED: "failed",
    AttemptOutcome.ASKED: "asked",
    AttemptOutcome.INTERRUPTED: "interrupted",
    AttemptOutcome.OPEN: "open",
}
"""What the style sheet calls them."""

HEIGHT = 24
THINNEST = 0.6
"""A bar has at least so many percent of the width, so that it is seen."""


def step_bars(step: StepView, scale: TimeScale) -> Html:
    """Draw a step's attempts, its waits for a person, and its signals; what is under way goes to the end of the scale.

    It is hidden from those who cannot see it: the text beside it and the list of attempts say the same.
    """
    pauses = [
        _bar("pause", pause.begin, pause.end, HEIGHT, f"pause of {duration(pause.length)}")
        for pause in scale.pauses
    ]
    signals = [
        element(
            "circle", {"class": "signal", "cx": _percent(scale.place(ts)), "cy": HEIGHT - 3, "r": 2}
        )
        for ts in step.signals
    ]
    return element(
        "svg",
        {
            "class": "bars",
            "width": "100%",
            "height": HEIGHT,
            "aria-hidden": "true",
            "focusable": "false",
        },
        *pauses,
        element(
            "line",
            {"class": "rail", "x1": "0%", "x2": "100%", "y1": HEIGHT // 2, "y2": HEIGHT // 2},
        ),
        *(bar for attempt in step.attempts for bar in _attempt(attempt, scale)),
        *signals,
    )


def _attempt(attempt: AttemptView, scale: TimeScale) -> Iterator[Html]:
    ended = attempt.ended or scale.end
    title = f"attempt {attempt.number}: {attempt.outcome.value}, {duration(ended - attempt.began)}"
    begin = scale.place(attempt.began)
    yield _bar(OUTCOME_CLASSES[attempt.outcome], begin, scale.place(ended), 14, title)
    if attempt.outcome is AttemptOutcome.ASKED:
        answered = attempt.answered or scale.end
        waited = f"waited {duration(answered - ended)} for the answer"
        yield _bar("wait", scale.place(ended), scale.place(answered), 8, waited)


def _bar(kind: str, begin: float, end: float, height: int, title: str) -> Html:
    width = max(end - begin, THINNEST)
    return element(
        "rect",
        {
            "class": f"bar {kind}",
            "x": _percent(min(begin, 100 - width)),
            "y": (HEIGHT - height) // 2,
            "width": _percent(width),
            "height": height,
            "rx": 3,
        },
        element("title", None, title),
    )


def _percent(value: float) -> str:
    return f"{value:.2f}%"
