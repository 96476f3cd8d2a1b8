"""The section for auditors: who caused the events and why, the definition, and the hashes."""

from collections.abc import Iterator
from typing import Any

from chem_persistence.domain.canonical_json.encode import canonical_json
from chem_persistence.domain.definition import StepDefinition
from chem_persistence.pages.html.markup import Child, Html, element
from chem_persistence.pages.sections.section import facts, left_out, section
from chem_persistence.views.flow_view import Attribution, FlowView
from chem_persistence.views.origin.parameters import OF_THE_STEP
from chem_persistence.views.wording import NOT_INITIALIZED, short

__all__ = ["identity_section"]

MOST_STEPS, MOST_CHARACTERS = 100, 500
"""So many steps of the definition are shown, and characters of the parameters of each."""

CHAIN_NOTE = (
    "The links were computed from the events as they were read for this page. That the stored "
    "links are the same, and the same as an anchor kept elsewhere, is what the command verify "
    "checks."
)


def identity_section(view: FlowView) -> Html:
    """Return the section of who caused which events, the flow's definition, and its hashes."""
    return section(
        "identity",
        "Who, why, and hashes",
        *_attributions(view),
        *_definition(view),
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


def _definition(view: FlowView) -> Iterator[Child]:
    """Yield the steps with which the flow was started, if its definition is stored."""
    if view.definition is None:
        return
    steps = view.definition.steps[:MOST_STEPS]
    names = ("#", "Step", "Kind", "Version", "Parameters")
    head = element("tr", None, *(element("th", {"scope": "col"}, name) for name in names))
    rows = (
        element("tr", None, *(element("td", None, cell) for cell in _cells(index, step)))
        for index, step in enumerate(steps)
    )
    yield element("table", None, element("thead", None, head), element("tbody", None, *rows))
    yield left_out(len(view.definition.steps), len(steps), "step")
    if given := [each for each in view.parameters if each.set_by != OF_THE_STEP][:MOST_STEPS]:
        yield facts(
            (f"{each.step}.{each.name}", f"{_json(each.value)}, set by the {each.set_by}")
            for each in given
        )


def _json(value: Any) -> str:
    return short(canonical_json(value).decode())


def _cells(index: int, step: StepDefinition) -> tuple[Child, ...]:
    params = "none" if step.params is None else canonical_json(step.params).decode()
    return (
        str(index),
        short(step.id),
        step.kind.value,
        short(step.version),
        element("code", None, short(params, MOST_CHARACTERS)),
    )


def _row(attribution: Attribution) -> Html:
    one = attribution.first == attribution.last
    events = f"{attribution.first}" if one else f"{attribution.first} to {attribution.last}"
    cells = (events, attribution.who, attribution.why)
    return element("tr", None, *(element("td", None, cell) for cell in cells))


def _note(text: str) -> Html:
    return element("p", {"class": "note"}, text)
