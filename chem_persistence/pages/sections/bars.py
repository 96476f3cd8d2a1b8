"""The bars of one step on the timeline, as SVG with positions in percent of the width."""

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
    AttemptOutcome.WAITED: "waited",
    AttemptOutcome.SUPERSEDED: "superseded",
    AttemptOutcome.OPEN: "open",
    AttemptOutcome.REUSED: "reused",
}
"""The classes of the style sheet."""

HEIGHT = 24
THINNEST = 0.6
"""The least width of a bar in percent, so that it can be seen."""


def step_bars(step: StepView, scale: TimeScale) -> Html:
    """Return a step's attempts, waits for a person, and signals as bars and dots.

    What is under way goes on to the end of the scale. The drawing is hidden from screen readers,
    because the text beside it and the list of attempts have the same information.
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
    took = f"{attempt.outcome.value}, {duration(ended - attempt.began)}"
    title = f"attempt {attempt.number}: {took}" if attempt.number else attempt.outcome.value
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
