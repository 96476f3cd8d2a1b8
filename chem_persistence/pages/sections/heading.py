"""The heading of a page: the flow, its state and figures, and what needs attention."""

from collections.abc import Iterator

from chem_persistence.domain.flow_state import FlowState
from chem_persistence.pages.html.markup import Child, Html, element
from chem_persistence.pages.sections.section import facts, flow_link
from chem_persistence.views.flow_view import AttemptOutcome, AttemptView, FlowView, StepView
from chem_persistence.views.wording import counted, duration, in_words, iso, moment, short, title

__all__ = ["page_heading"]

_STATE_CLASSES = {
    FlowState.COMPLETED: "finished",
    FlowState.FAILED: "failed",
    FlowState.CANCELLED: "cancelled",
    FlowState.AWAITING_USER_INPUT: "asked",
    FlowState.WAITING: "waited",
    FlowState.RUNNING: "open",
    FlowState.PENDING: "open",
}
"""The classes of the style sheet."""


def page_heading(view: FlowView) -> Html:
    """Return the heading: the flow, its state, what needs attention, and its figures."""
    return element(
        "header",
        None,
        element("p", {"class": "kicker"}, f"Flow {title(view.name, view.label)}".strip()),
        element("h1", None, str(view.flow_id)),
        element("p", {"class": f"state {_STATE_CLASSES[view.state]}"}, in_words(view.state)),
        *_parent(view),
        *_attention(view),
        facts(_figures(view)),
    )


_FINISHED = (AttemptOutcome.FINISHED, AttemptOutcome.REUSED)


def _parent(view: FlowView) -> Iterator[Child]:
    if view.parent is not None:
        where = f", step {view.parent.step_index}, item {view.parent.item}"
        yield element("p", {"class": "parent"}, "Child of ", flow_link(view.parent.flow_id), where)


def _figures(view: FlowView) -> Iterator[tuple[str, Child]]:
    finished = sum(_ended_with(step) in _FINISHED for step in view.steps)
    total = "?" if view.step_count is None else f"{view.step_count:,}"
    retries = sum(step.retry_count for step in view.steps)
    yield "Began", element("time", {"datetime": iso(view.began)}, moment(view.began))
    yield "Last event", element("time", {"datetime": iso(view.last_at)}, moment(view.last_at))
    yield "From first to last", duration(view.last_at - view.began)
    if view.state not in {FlowState.COMPLETED, FlowState.CANCELLED, FlowState.FAILED}:
        yield "Since the last event", duration(view.seen_at - view.last_at)
    yield "Steps finished", f"{finished:,} of {total}"
    yield "Attempts", f"{sum(step.attempt_count for step in view.steps):,}"
    yield "Retries", f"{retries:,}"
    yield "Events", f"{view.event_count:,}"
    yield "Artifacts", f"{view.artifact_count:,}"


def _ended_with(step: StepView) -> AttemptOutcome | None:
    return step.attempts[-1].outcome if step.attempts else None


def _attention(view: FlowView) -> Iterator[Child]:
    """Yield what went wrong, why the flow was cancelled, or what it waits for."""
    if view.state is FlowState.CANCELLED:
        yield _callout("cancelled", "The flow was cancelled", short(view.cancelled or "", 500))
    for step in view.steps:
        last = step.attempts[-1] if step.attempts else None
        if last is None:
            continue
        if view.state is FlowState.FAILED and last.outcome is AttemptOutcome.FAILED:
            yield _callout(
                "failed", f"Step {step.id} failed in attempt {last.number}", _error(last)
            )
        elif (
            view.state is FlowState.AWAITING_USER_INPUT
            and last.outcome is AttemptOutcome.ASKED
            and not last.answered
        ):
            yield _callout("asked", f"Step {step.id} waits for an answer", last.question or "")
        elif (
            view.state is FlowState.WAITING
            and last.outcome is AttemptOutcome.WAITED
            and not last.ended
        ):
            yield _callout("waited", f"Step {step.id} waits", _wait(view, step, last))
        elif view.state is FlowState.RUNNING and last.retry_at is not None:
            yield _callout(
                "waited",
                f"Step {step.id} failed in attempt {last.number}, and is tried again",
                f"not before {moment(last.retry_at)}: {_error(last)}",
            )


def _wait(view: FlowView, step: StepView, last: AttemptView) -> str:
    """Return what a step waits for."""
    for children in view.children:
        if children.step_index == step.index and children.running:
            return f"for {counted(children.running, 'flow')} that it runs"
    return f"until {moment(last.until)}" if last.until else "until something happens to it"


def _error(attempt: AttemptView) -> str:
    return (
        short(f"{attempt.error.error_class}: {attempt.error.message}", 500) if attempt.error else ""
    )


def _callout(kind: str, title: str, text: str) -> Html:
    body = element("p", None, text) if text else ""
    return element(
        "div",
        {"class": f"callout {kind}"},
        element("p", None, element("strong", None, title)),
        body,
    )
