"""The parts that all sections share: heading, note of what is left out, text, table."""

from collections.abc import Iterable

from chem_persistence.pages.html.markup import Child, Html, element
from chem_persistence.views.flow_view import NoPreview, TextPreview
from chem_persistence.views.wording import counted

__all__ = ["facts", "left_out", "section", "text_block"]


def section(name: str, title: str, *children: Child) -> Html:
    """Return a section with a heading, to which the navigation of the page links."""
    heading = element("h2", {"id": f"{name}-title"}, title)
    return element("section", {"id": name, "aria-labelledby": f"{name}-title"}, heading, *children)


def left_out(count: int, shown: int, noun: str) -> Child:
    """Return a note on how many entries are not shown, or "" if all are."""
    if count <= shown:
        return ""
    text = f"{counted(count - shown, noun)} of {count:,} left out: above the page's limit."
    return element("p", {"class": "note left-out"}, text)


def facts(pairs: Iterable[tuple[str, Child]]) -> Html:
    """Return a list of names and values."""
    rows = (
        element("div", None, element("dt", None, name), element("dd", None, value))
        for name, value in pairs
    )
    return element("dl", {"class": "facts"}, *rows)


def text_block(preview: TextPreview | NoPreview) -> Html:
    """Return a text as it is, with a note on how much of it is left out."""
    if isinstance(preview, NoPreview):
        alarm = " alarm" if preview.alarming else ""
        return element("p", {"class": f"note{alarm}"}, preview.reason)
    block = element("pre", None, preview.text)
    shown = len(preview.text)
    if preview.characters is None:
        note = f"The first {counted(shown, 'character')} are shown."
    elif preview.characters > shown:
        note = f"The first {shown:,} of {counted(preview.characters, 'character')} are shown."
    else:
        return block
    return element("div", None, block, element("p", {"class": "note left-out"}, note))
