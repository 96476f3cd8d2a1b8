"""The section of events: a line for each, with payload, metadata and link when opened."""

from collections.abc import Iterator, Sequence
from datetime import datetime

from chem_persistence.domain.events import EVENT_KINDS
from chem_persistence.pages.html.markup import Child, Html, element
from chem_persistence.pages.sections.artifact_list import artifact_link
from chem_persistence.pages.sections.section import facts, name_text, section, text_block
from chem_persistence.views.event_listing import event_runs
from chem_persistence.views.flow_view import EventView, FlowView
from chem_persistence.views.wording import counted, iso, short_hash, stopwatch

__all__ = ["event_section"]


def event_section(view: FlowView) -> Html:
    """Return the list of events, with notes where events are left out.

    Many signals of a step in a row are collapsed into one line.
    """
    shown = {artifact.hash for artifact in view.artifacts}
    return section(
        "events",
        f"Events ({view.event_count:,})",
        _controls(view),
        element("ol", {"class": "events"}, *_rows(view, shown)),
    )


def _rows(view: FlowView, shown: set[str]) -> Iterator[Child]:
    expected = 0
    for run in event_runs(view.events):
        if run[0].version != expected:
            gap = (
                f"{counted(run[0].version - expected, 'event')} not shown: "
                f"a page shows at most {len(view.events):,}."
            )
            yield element("li", {"class": "gap note"}, gap)
        rows = [_row(event, view.began, shown) for event in run]
        yield rows[0] if len(rows) == 1 else _run(run, rows, view.began)
        expected = run[-1].version + 1


def _run(run: Sequence[EventView], rows: Sequence[Html], began: datetime) -> Html:
    first, last = run[0], run[-1]
    line = element(
        "summary",
        {"class": "event"},
        element("span", {"class": "version"}, f"{first.version} to {last.version}"),
        element(
            "span", {"class": f"letter {first.event_type}", "aria-hidden": "true"}, first.variant
        ),
        element(
            "span",
            {"class": "what"},
            f"{len(run):,} signals ",
            element("strong", None, first.step or ""),
        ),
        element("span", {"class": "who"}, first.who if first.who == last.who else ""),
        element("span", {"class": "when"}, stopwatch(first.ts - began)),
    )
    return element(
        "li", {"class": "run"}, element("details", None, line, element("ol", None, *rows))
    )


def _controls(view: FlowView) -> Html:
    """Return the controls of the filter, hidden until the script runs that needs them."""
    kinds = dict.fromkeys(event.event_type for event in view.events)
    options = (element("option", {"value": kind}, _name(kind)) for kind in kinds)
    return element(
        "div",
        {"class": "controls", "id": "event-controls", "hidden": True},
        element("label", None, "Find", element("input", {"id": "event-filter", "type": "search"})),
        element(
            "label",
            None,
            "Kind",
            element(
                "select", {"id": "event-kind"}, element("option", {"value": ""}, "all"), *options
            ),
        ),
        element("button", {"id": "event-open", "type": "button"}, "Open all"),
        element("button", {"id": "event-close", "type": "button"}, "Close all"),
        element("span", {"id": "event-count", "class": "note", "role": "status"}),
    )


def _row(event: EventView, began: datetime, shown: set[str]) -> Html:
    line = element(
        "summary",
        {"class": "event"},
        element("span", {"class": "version"}, f"{event.version}"),
        element(
            "span", {"class": f"letter {event.event_type}", "aria-hidden": "true"}, event.variant
        ),
        element("span", {"class": "what"}, _name(event.event_type), *_subject(event)),
        element("span", {"class": "who"}, event.who),
        element("time", {"class": "when", "datetime": iso(event.ts)}, stopwatch(event.ts - began)),
    )
    payloads = _payloads(event, shown)
    body = element("div", {"class": "event-body"}, _facts(event, shown), *payloads)
    return element("li", {"data-kind": event.event_type}, element("details", None, line, body))


def _name(event_type: str) -> str:
    """Return the class name of an event in words: `Step finished`."""
    name = EVENT_KINDS[event_type].__name__
    return name[0] + "".join(
        f" {letter.lower()}" if letter.isupper() else letter for letter in name[1:]
    )


def _subject(event: EventView) -> Iterator[Child]:
    if event.step is not None:
        yield " "
        yield element("strong", None, name_text(event.step))
    if event.summary:
        yield " "
        yield element("span", {"class": "summary"}, event.summary)


def _facts(event: EventView, shown: set[str]) -> Html:
    pairs: list[tuple[str, Child]] = [
        ("Time", iso(event.ts)),
        ("Event id", element("code", None, str(event.event_id))),
        ("Sequence", f"{event.seq}"),
        ("Link of the chain", element("code", None, event.link)),
    ]
    for artifact_hash in event.artifacts:
        code = element("code", None, short_hash(artifact_hash))
        pairs.append(("Artifact", artifact_link(artifact_hash) if artifact_hash in shown else code))
    return facts(pairs)


def _payloads(event: EventView, shown: set[str]) -> Iterator[Child]:
    yield element("h3", None, "Payload")
    yield text_block(event.payload, shown)
    if event.metadata is not None:
        yield element("h3", None, "Metadata")
        yield text_block(event.metadata, shown)
