"""The attempts at one step in words: when each began, how long it took, how it ended."""

from collections.abc import Iterator

from chem_persistence.pages.html.markup import Child, Html, element
from chem_persistence.pages.sections.bars import OUTCOME_CLASSES
from chem_persistence.pages.sections.section import left_out
from chem_persistence.pages.sections.taken_over_list import origin_notes
from chem_persistence.views.flow_view import AttemptView, StepView
from chem_persistence.views.wording import duration, iso, moment

__all__ = ["attempt_list"]


def attempt_list(step: StepView) -> Html:
    """Return the list of the attempts that the page has, with their questions and errors."""
    return element(
        "div",
        {"class": "attempts"},
        left_out(step.attempt_count, len(step.attempts), "attempt"),
        element("ol", None, *(_attempt(attempt) for attempt in step.attempts if attempt.number)),
        *origin_notes(step),
        left_out(step.signal_count, len(step.signals), "signal"),
    )


def _attempt(attempt: AttemptView) -> Html:
    took = f" after {duration(attempt.ended - attempt.began)}" if attempt.ended else ""
    outcome = element(
        "strong", {"class": OUTCOME_CLASSES[attempt.outcome]}, f"{attempt.outcome.value}{took}"
    )
    began = element("time", {"datetime": iso(attempt.began)}, moment(attempt.began))
    line = element("p", None, f"Attempt {attempt.number}, begun ", began, ": ", outcome)
    return element("li", None, line, *_question(attempt), *_error(attempt))


def _question(attempt: AttemptView) -> Iterator[Child]:
    if attempt.question is None or attempt.ended is None:
        return
    if attempt.question:
        yield element("p", {"class": "question"}, attempt.question)
    if attempt.answered:
        yield element("p", None, f"Answered after {duration(attempt.answered - attempt.ended)}.")
    else:
        yield element("p", None, "Not answered yet.")


def _error(attempt: AttemptView) -> Iterator[Child]:
    error = attempt.error
    if error is None:
        return
    yield element(
        "p", {"class": "error"}, element("code", None, error.error_class), ": ", error.message
    )
    if error.traceback:
        summary = element("summary", None, f"Traceback of attempt {attempt.number}")
        yield element("details", None, summary, element("pre", None, error.traceback))
