"""The section of the flow's tree of branches: its root, parent, siblings and own branches."""

from chem_persistence.pages.html.markup import Html, element
from chem_persistence.pages.sections.children_list import STATE_CLASSES
from chem_persistence.pages.sections.section import flow_link, section
from chem_persistence.views.flow_view import FlowView
from chem_persistence.views.origin.branches import MOST_FLOWS, BranchTree, BranchView

__all__ = ["branch_section"]


def branch_section(view: FlowView) -> Html:
    """Return the section of the branches, each generation within the one before it."""
    tree = view.branches
    note = "" if tree.is_whole else f"Only the first {MOST_FLOWS} flows are shown."
    return section(
        "branches",
        "Branches",
        _list(tree, 0),
        element("p", {"class": "note left-out"}, note) if note else "",
    )


def _list(tree: BranchTree, first: int) -> Html:
    """Return the list that begins with this flow, and ends with its generation's last sibling."""
    generation = tree.flows[first].generation
    items: list[Html] = []
    for index in range(first, len(tree.flows)):
        each = tree.flows[index]
        if each.generation < generation:
            break
        if each.generation == generation:
            following = tree.flows[index + 1 : index + 2]
            is_parent = any(other.generation > generation for other in following)
            inner = _list(tree, index + 1) if is_parent else ""
            items.append(element("li", None, *_flow(each), inner))
    return element("ul", None, *items)


def _flow(branch: BranchView) -> tuple[Html | str, ...]:
    state = "not stored" if branch.state is None else str(branch.state)
    style = {"class": STATE_CLASSES[branch.state]} if branch.state else None
    name = element("code", None, str(branch.flow_id)) if branch.is_shown else None
    shown = element("strong", None, "this flow ", name) if name else flow_link(branch.flow_id)
    words = f", {branch.in_words}" if branch.in_words else ""
    return (shown, " ", element("span", style, state), words)
