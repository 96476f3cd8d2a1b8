"""The flows that the steps of a flow have run: the counts by state, and the failed ones first."""

from collections.abc import Iterator

from chem_persistence.pages.html.markup import Child, Html, element
from chem_persistence.pages.sections.section import flow_link, left_out, name_text, section
from chem_persistence.store.leasing.children import ChildState
from chem_persistence.views.children import ChildrenView, ChildView
from chem_persistence.views.flow_view import FlowView
from chem_persistence.views.wording import counted

__all__ = ["STATE_CLASSES", "children_section"]

STATE_CLASSES = {
    ChildState.FAILED: "failed",
    ChildState.CANCELLED: "superseded",
    ChildState.RUNNING: "open",
    ChildState.COMPLETED: "finished",
}
"""The classes of the style sheet, as those of the outcomes of attempts."""


def children_section(view: FlowView) -> Html:
    """Return the section of the flows that the steps have run."""
    steps = [child for step in view.children for child in _step(step)]
    return section("children", "Children", *steps)


def _step(step: ChildrenView) -> Iterator[Child]:
    yield element("h3", None, "Step ", name_text(step.step_id))
    yield element("p", None, f"{counted(step.submitted, 'flow')}: {step.in_words}.")
    yield element("ol", {"class": "children"}, *(_child(child) for child in step.listed))
    yield left_out(step.submitted, len(step.listed), "flow")


def _child(child: ChildView) -> Html:
    state = element("strong", {"class": STATE_CLASSES[child.state]}, str(child.state))
    item = element("span", None, f"item {child.item}")
    return element("li", None, state, " ", item, " ", flow_link(child.flow_id))
