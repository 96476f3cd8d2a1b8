"""The steps of other flows that took results of the flow over, and where a step's own is from."""

from collections.abc import Iterator

from chem_persistence.pages.html.markup import Child, Html, element
from chem_persistence.pages.sections.section import flow_link, name_text, section
from chem_persistence.store.reuse.results import TakenOver
from chem_persistence.views.flow_view import FlowView, PageLimits, StepView
from chem_persistence.views.wording import moment

__all__ = ["origin_notes", "taken_over_section"]

MOST_LISTED = PageLimits().children


def taken_over_section(view: FlowView) -> Html:
    """Return the list of the steps that took results of the flow over instead of running."""
    rows = element("ol", {"class": "children"}, *map(_row, view.taken_over[:MOST_LISTED]))
    has_more = len(view.taken_over) > MOST_LISTED
    note = element("p", {"class": "note left-out"}, "There are more.") if has_more else ""
    return section("taken-over", "Taken over by other flows", rows, note)


def _row(taken: TakenOver) -> Html:
    name = element("strong", None, name_text(taken.step_id))
    return element("li", None, name, " ", flow_link(taken.flow_id), f", event {taken.version}")


def origin_notes(step: StepView) -> Iterator[Child]:
    """Yield where the result of a step was taken over from, and that its own is invalid."""
    if step.origin is not None:
        link, where = flow_link(step.origin.flow_id), f", event {step.origin.version}."
        yield element("p", None, "Its result was taken over from flow ", link, where)
    if step.invalidated is not None:
        said = step.invalidated
        who = f" by {said.who}" if said.who else ""
        text = f"Its result was declared invalid{who} at {moment(said.at)}: {said.reason}"
        yield element("p", {"class": "error"}, text)
