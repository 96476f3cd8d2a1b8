"""The section of the programs that ran the flow, with their versions."""

from chem_persistence.pages.html.markup import Child, Html, element
from chem_persistence.pages.sections.section import left_out, section
from chem_persistence.views.flow_view import FlowView
from chem_persistence.views.origin.programs import RanView

__all__ = ["program_section"]


def program_section(view: FlowView) -> Html:
    """Return the section of what ran the flow: who, from which event to which, and the versions."""
    names = ("Events", "Host and process", "Versions", "Commit")
    head = element("tr", None, *(element("th", {"scope": "col"}, name) for name in names))
    rows = (
        element("tr", None, *(element("td", None, cell) for cell in _cells(ran)))
        for ran in view.programs
    )
    return section(
        "ran",
        "What ran",
        element("table", None, element("thead", None, head), element("tbody", None, *rows)),
        left_out(view.program_count, len(view.programs), "program"),
    )


def _cells(ran: RanView) -> tuple[Child, ...]:
    versions = ", ".join(f"{name} {version or 'missing'}" for name, version in ran.versions.items())
    return (
        f"{ran.events} (begun only)" if ran.only_began else ran.events,
        ran.where,
        versions,
        element("code", None, ran.commit) if ran.commit else "not known",
    )
