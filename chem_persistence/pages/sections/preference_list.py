"""The section of the choices that policies made, with the scores of the candidates."""

from collections.abc import Iterator

from chem_persistence.domain.events import PropertyPreferenceAssigned
from chem_persistence.domain.selection.preference import PreferenceRationale, read_rationale
from chem_persistence.pages.html.markup import Child, Html, element
from chem_persistence.pages.sections.section import left_out, section
from chem_persistence.views.event_line import event_line
from chem_persistence.views.flow_view import FlowView

__all__ = ["preference_section"]

MOST_CANDIDATES = 20


def preference_section(view: FlowView) -> Html:
    """Return the section of what policies chose, and why."""
    choices = [child for each in view.preferences for child in _choice(each)]
    omitted = left_out(view.preference_count, len(view.preferences), "choice")
    return section("choices", "Choices", *choices, omitted)


def _choice(preference: PropertyPreferenceAssigned) -> Iterator[Child]:
    yield element("h3", None, preference.property_key)
    yield element("p", None, event_line(preference).sentence)
    if (why := read_rationale(preference)) is not None:
        yield from _candidates(why)


def _candidates(why: PreferenceRationale) -> Iterator[Child]:
    names = ("Candidate", "Score")
    head = element("tr", None, *(element("th", {"scope": "col"}, name) for name in names))
    rows = (
        element(
            "tr",
            None,
            element("td", None, element("code", None, each.hash)),
            element("td", None, f"{each.score:.10g}"),
        )
        for each in why.candidates[:MOST_CANDIDATES]
    )
    yield element("table", None, element("thead", None, head), element("tbody", None, *rows))
    yield left_out(why.count, min(len(why.candidates), MOST_CANDIDATES), "candidate")
