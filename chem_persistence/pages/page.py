"""The HTML of a whole page, written from a view of a flow."""

from collections.abc import Iterable, Iterator
from itertools import chain

from chem_persistence.pages.html.assets import read_asset
from chem_persistence.pages.html.markup import Html, element
from chem_persistence.pages.sections.artifact_list import artifact_section
from chem_persistence.pages.sections.branch_list import branch_section
from chem_persistence.pages.sections.children_list import children_section
from chem_persistence.pages.sections.event_list import event_section
from chem_persistence.pages.sections.heading import page_heading
from chem_persistence.pages.sections.identity import identity_section
from chem_persistence.pages.sections.molecule_list import molecule_section
from chem_persistence.pages.sections.preference_list import preference_section
from chem_persistence.pages.sections.program_list import program_section
from chem_persistence.pages.sections.taken_over_list import taken_over_section
from chem_persistence.pages.sections.timeline import timeline_section
from chem_persistence.views.flow_view import FlowView, ServedPage
from chem_persistence.views.wording import in_words, moment, title

__all__ = ["page_policy", "render_page"]


def render_page(view: FlowView) -> str:
    """Return the page of a flow.

    Its Content-Security-Policy forbids a browser to load anything, and to use any script or style
    sheet but those of this package, identified by their hashes. So even a text that was not escaped
    by mistake would not be executed.
    """
    style, script = read_asset("style", "page.css"), read_asset("script", "page.js")
    head = element(
        "head",
        None,
        element("meta", {"charset": "utf-8"}),
        element("meta", {"http-equiv": "Content-Security-Policy", "content": page_policy()}),
        element("meta", {"name": "referrer", "content": "no-referrer"}),
        element("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}),
        element("meta", {"name": "color-scheme", "content": "light dark"}),
        element("link", {"rel": "icon", "href": "data:,"}),  # without it a browser requests one
        element("title", None, f"Flow {_called(view)}: {in_words(view.state)}"),
        style.element,
    )
    return (
        f"<!doctype html>\n{element('html', {'lang': 'en'}, head, _body(view), script.element)}\n"
    )


def page_policy() -> str:
    """Return the Content-Security-Policy of a page."""
    style, script = read_asset("style", "page.css"), read_asset("script", "page.js")
    return (
        f"default-src 'none'; style-src {style.source}; script-src {script.source}; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _called(view: FlowView) -> str:
    called = title(view.name, view.label)
    return f"{view.flow_id} ({called})" if called else str(view.flow_id)


def _body(view: FlowView) -> Html:
    sections = list(_sections(view))
    links: Iterable[Html] = (
        element("a", {"href": f"#{name}"}, heading) for name, heading, _ in sections
    )
    if view.served is not None:
        links = chain([element("a", {"href": "../"}, "All flows")], links)
    if view.served is ServedPage.WITH_ACTIONS:
        links = chain(links, [element("a", {"href": f"{view.flow_id}/actions"}, "Actions")])
    seen = f"Seen {moment(view.seen_at)}, after event {view.event_count - 1}."
    return element(
        "body",
        None,
        element("a", {"class": "skip", "href": "#timeline"}, "Skip to the timeline"),
        page_heading(view),
        element("nav", {"aria-label": "Sections"}, *links),
        element("main", None, *(section for _, _, section in sections)),
        element("footer", None, element("p", None, f"{seen} Made by chem_persistence.")),
    )


def _sections(view: FlowView) -> Iterator[tuple[str, str, Html]]:
    yield "timeline", "Timeline", timeline_section(view)
    if view.molecules or view.molecule_note:
        yield "molecules", "Molecules", molecule_section(view)
    if view.children:
        yield "children", "Children", children_section(view)
    if view.taken_over:
        yield "taken-over", "Taken over", taken_over_section(view)
    if view.branches.flows:
        yield "branches", "Branches", branch_section(view)
    yield "events", "Events", event_section(view)
    if view.artifact_count:
        yield "artifacts", "Artifacts", artifact_section(view)
    if view.preferences:
        yield "choices", "Choices", preference_section(view)
    if view.programs:
        yield "ran", "What ran", program_section(view)
    yield "identity", "Who, why, and hashes", identity_section(view)
