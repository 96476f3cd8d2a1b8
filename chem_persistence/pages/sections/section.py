"""The parts that all sections share: heading, note of what is not shown, names, texts, table."""

import re
from collections.abc import Collection, Iterable
from uuid import UUID

from chem_persistence.pages.html.markup import Child, Html, element, group
from chem_persistence.views.flow_view import NoPreview, TextPreview
from chem_persistence.views.wording import counted

__all__ = ["facts", "flow_link", "left_out", "name_text", "section", "text_block"]

_HASH = re.compile("(?<![0-9A-Za-z])([0-9a-f]{64})(?![0-9A-Za-z])")

_PART_OF_NAME = re.compile(r"[^_\-./:]*[_\-./:]+|[^_\-./:]+")


def section(name: str, title: str, *children: Child) -> Html:
    """Return a section with a heading, to which the navigation of the page links."""
    heading = element("h2", {"id": f"{name}-title"}, title)
    return element("section", {"id": name, "aria-labelledby": f"{name}-title"}, heading, *children)


def left_out(count: int, shown: int, noun: str) -> Child:
    """Return a note on how many entries are not shown, or "" if all are."""
    if count <= shown:
        return ""
    text = f"{counted(count - shown, noun)} of {count:,} not shown: a page shows at most {shown:,}."
    return element("p", {"class": "note left-out"}, text)


def facts(pairs: Iterable[tuple[str, Child]]) -> Html:
    """Return a list of names and values."""
    rows = (
        element("div", None, element("dt", None, name), element("dd", None, value))
        for name, value in pairs
    )
    return element("dl", {"class": "facts"}, *rows)


def flow_link(flow_id: UUID) -> Html:
    """Return a flow's id as a link to its page, which is in the same folder if it was written."""
    return element("a", {"href": f"{flow_id}.html"}, element("code", None, str(flow_id)))


def name_text(name: str) -> Html:
    """Return a name that a browser breaks after its separators, before it breaks a word."""
    children: list[Child] = []
    for part in _PART_OF_NAME.findall(name):
        children += [element("wbr"), part] if children else [part]
    return group(children)


def text_block(preview: TextPreview | NoPreview, shown_artifacts: Collection[str] = ()) -> Html:
    """Return a text as it is, with a note on how much of it is not shown.

    The hash of an artifact that the page shows is a link to it.
    """
    if isinstance(preview, NoPreview):
        alarm = " alarm" if preview.alarming else ""
        return element("p", {"class": f"note{alarm}"}, preview.reason)
    block = element("pre", None, *_linked(preview.text, shown_artifacts))
    shown = len(preview.text)
    if preview.characters is None:
        note = f"The first {counted(shown, 'character')} are shown."
    elif preview.characters > shown:
        note = f"The first {shown:,} of {counted(preview.characters, 'character')} are shown."
    else:
        return block
    return element("div", None, block, element("p", {"class": "note left-out"}, note))


def _linked(text: str, shown_artifacts: Collection[str]) -> Iterable[Child]:
    for part in _HASH.split(text):
        is_link = part in shown_artifacts
        yield element("a", {"href": f"#artifact-{part}"}, part) if is_link else part
