"""The timeline: a lane for each step, with a bar for every attempt and details below."""

from collections.abc import Iterator
from datetime import timedelta

from chem_persistence.pages.html.markup import Child, Html, element
from chem_persistence.pages.sections.attempt_list import attempt_list
from chem_persistence.pages.sections.bars import OUTCOME_CLASSES, step_bars
from chem_persistence.pages.sections.section import left_out, name_text, section
from chem_persistence.views.flow_view import AttemptOutcome, FlowView, StepView
from chem_persistence.views.time_scale import COMPLETE_OUTCOMES, TimeScale, flow_scale
from chem_persistence.views.wording import counted, duration

__all__ = ["timeline_section"]

LONGEST_SHORT_NAME = 18
"""A step's name of more characters gets a wider column."""

LAST_MIDDLE = 94
"""A tick further right ends at its mark, so that it does not extend beyond the axis."""

_SIGNS = {
    AttemptOutcome.FINISHED: "\u2713",
    AttemptOutcome.FAILED: "\u2715",
    AttemptOutcome.ASKED: "?",
    AttemptOutcome.WAITED: "\u2026",
    AttemptOutcome.SUPERSEDED: "!",
    AttemptOutcome.OPEN: "\u25b8",
    AttemptOutcome.REUSED: "\u21ba",
}


def timeline_section(view: FlowView) -> Html:
    """Return the lanes of the steps that have begun, and a note on those that have not."""
    note = _not_begun(view)
    return section(
        "timeline",
        "Timeline",
        *(_drawing(view) if view.steps else ()),
        left_out(view.named_steps, len(view.steps), "step"),
        element("p", {"class": "note"}, note) if note else "",
    )


def _drawing(view: FlowView) -> Iterator[Child]:
    scale = flow_scale(
        view.steps,
        state=view.state,
        began=view.began,
        last_at=view.last_at,
        seen_at=view.seen_at,
    )
    yield _legend(view, scale)
    is_long = any(len(step.id) > LONGEST_SHORT_NAME for step in view.steps)
    lanes = element("ol", {"class": "lanes"}, *(_lane(step, scale) for step in view.steps))
    yield element("div", {"class": "long-names" if is_long else "names"}, _axis(scale), lanes)


def _not_begun(view: FlowView) -> str:
    waiting = max(0, (view.step_count or 0) - view.named_steps)
    if waiting:
        verb = "has" if waiting == 1 else "have"
        return f"{counted(waiting, 'step')} {verb} not begun."
    return "" if view.steps else "No step has begun."


def _legend(view: FlowView, scale: TimeScale) -> Html:
    shown = dict.fromkeys(attempt.outcome for step in view.steps for attempt in step.attempts)
    keys = [
        element(
            "li",
            None,
            element("span", {"class": f"swatch {OUTCOME_CLASSES[outcome]}"}),
            outcome.value,
        )
        for outcome in shown
    ]
    if AttemptOutcome.ASKED in shown:
        keys.append(
            element("li", None, element("span", {"class": "swatch wait"}), "waits for the answer")
        )
    if scale.pauses:
        keys.append(
            element("li", None, element("span", {"class": "swatch pause"}), "pause, drawn shorter")
        )
    return element("ul", {"class": "legend", "aria-label": "What the bars mean"}, *keys)


def _axis(scale: TimeScale) -> Html:
    ticks = []
    for number, (place, elapsed) in enumerate(scale.ticks()):
        anchor = "begin" if number == 0 else "end" if place > LAST_MIDDLE else "middle"
        text = duration(elapsed) if elapsed else "0"
        minor = " minor" if number % 2 else ""
        x = f"{place:.2f}%"
        ticks.append(element("text", {"class": f"tick {anchor}{minor}", "x": x, "y": 11}, text))
        ticks.append(
            element("line", {"class": f"mark{minor}", "x1": x, "x2": x, "y1": 14, "y2": 18})
        )
    drawing = element("svg", {"class": "axis", "width": "100%", "height": 18}, *ticks)
    return element("div", {"class": "lane axis-row", "aria-hidden": "true"}, drawing)


def _lane(step: StepView, scale: TimeScale) -> Html:
    outcome = step.attempts[-1].outcome if step.attempts else AttemptOutcome.OPEN
    name: list[Child] = [
        element(
            "span",
            {"class": f"sign {OUTCOME_CLASSES[outcome]}", "aria-hidden": "true"},
            _SIGNS[outcome],
        ),
        element("span", {"class": "index"}, f"{step.index}"),
        element("strong", None, name_text(step.id)),
    ]
    summary = element(
        "summary",
        {"class": "lane"},
        element("span", {"class": "lane-name"}, *name),
        step_bars(step, scale),
        element("span", {"class": "lane-facts"}, _facts(step, outcome)),
    )
    return element("li", None, element("details", {"class": "step"}, summary, attempt_list(step)))


def _facts(step: StepView, outcome: AttemptOutcome) -> str:
    # a superseded attempt is left out, because it is not known how long it ran
    ended = (attempt for attempt in step.attempts if attempt.outcome in COMPLETE_OUTCOMES)
    spans = [attempt.ended - attempt.began for attempt in ended if attempt.ended]
    facts = [outcome.value]
    if spans:
        facts.append(duration(sum(spans, timedelta())))
    if step.attempt_count > 1:
        facts.append(counted(step.attempt_count, "attempt"))
    if step.invalidated is not None:
        facts.append("invalid")
    if step.signal_count:
        facts.append(counted(step.signal_count, "signal"))
    return ", ".join(facts)
