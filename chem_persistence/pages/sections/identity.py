"""The section for auditors: who caused the events and why, and the hashes of the flow."""

from collections.abc import Iterator

from chem_persistence.pages.html.markup import Child, Html, element
from chem_persistence.pages.sections.section import facts, left_out, section
from chem_persistence.views.flow_view import Attribution, FlowView
from chem_persistence.views.wording import NOT_INITIALIZED

__all__ = ["identity_section"]

CHAIN_NOTE = (
    "The links were computed from the events as they were read for this page. That the stored "
    "links are the same, and the same as an anchor kept elsewhere, is what the command verify "
    "checks."
)


def identity_section(view: FlowView) -> Html:
    """Return the section of who caused which events and why, and of the flow's hashes."""
    return section(
        "identity",
        "Who, why, and hashes",
        *_attributions(view),
        facts(_hashes(view)),
        _note(CHAIN_NOTE),
    )


def _hashes(view: FlowView) -> Iterator[tuple[str, Child]]:
    yield "Flow", element("code", None, str(view.flow_id))
    definition = view.definition_hash
    yield "Definition", NOT_INITIALIZED if definition is None else element("code", None, definition)
    if view.flow_fingerprint is not None:
        yield "Fingerprint", element("code", None, view.flow_fingerprint)
    yield f"Head of the chain, event {view.event_count - 1}", element("code", None, view.head)


def _attributions(view: FlowView) -> Iterator[Child]:
    if not view.attributions:
        yield _note("The events do not record who appended them, or why.")
        return
    head = element(
        "tr", None, *(element("th", {"scope": "col"}, name) for name in ("Events", "Who", "Why"))
    )
    rows = (_row(attribution) for attribution in view.attributions)
    yield element("table", None, element("thead", None, head), element("tbody", None, *rows))
    yield left_out(view.attribution_count, len(view.attributions), "line")


def _row(attribution: Attribution) -> Html:
    one = attribution.first == attribution.last
    events = f"{attribution.first}" if one else f"{attribution.first} to {attribution.last}"
    cells = (events, attribution.who, attribution.why)
    return element("tr", None, *(element("td", None, cell) for cell in cells))


def _note(text: str) -> Html:
    return element("p", {"class": "note"}, text)
