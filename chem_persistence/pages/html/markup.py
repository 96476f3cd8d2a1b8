"""HTML that cannot be written unescaped by mistake.

There is no way from a string to markup that does not escape it: `Html(text)` does, and so do `element` and `group` with
their children and attributes. The names of elements and attributes are closed sets without scripts, frames and forms that send;
what an attribute may hold is checked where a browser would act on it. A template engine escapes too, but lets a template say `safe`,
accepts any attribute (`onclick`, `href="javascript:"`), and is seen by no type checker.
"""

import json
import re
from collections.abc import Iterable, Mapping
from html import escape
from typing import Final, Literal, TypeAlias

from chem_persistence.errors import InvalidArgument
from chem_persistence.pages.html.vocabulary import ATTRIBUTES, ELEMENTS, EMPTY_ELEMENTS, PATTERNS

__all__ = ["Child", "Html", "Value", "element", "group", "packed_element", "visible"]

_UNSEEN: Final = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff0-\uffff"
    "\ud800-\udfff\U000e0000-\U000e0fff]"
)


class Html:
    """Markup, made of a text by escaping it."""

    __slots__ = ("_markup",)

    def __init__(self, text: str) -> None:
        self._markup = escape(visible(text), quote=True)

    def __str__(self) -> str:
        return self._markup


class _Made(Html):
    """Markup that was put together here."""

    __slots__ = ()

    def __init__(self, markup: str) -> None:  # what it is given is escaped already
        self._markup = markup


Child: TypeAlias = Html | str
Value: TypeAlias = str | int | float | bool


def visible(text: str) -> str:
    r"""Show what would not be seen, or would reorder what is (Unicode TR 36, 2.1), as JSON does: `\u202e`."""
    return _UNSEEN.sub(lambda match: json.dumps(match[0])[1:-1], text)


def element(name: str, attributes: Mapping[str, Value] | None = None, *children: Child) -> Html:
    """Make an element; an attribute that is False is left out, one that is True has no value.

    Raises:
        InvalidArgument: the element or an attribute is none that a page may have, or a link leads out of the page.
    """
    if name not in ELEMENTS:
        raise InvalidArgument(name, "is no element of a page")
    written = "".join(_attribute(key, value) for key, value in (attributes or {}).items())
    if name in EMPTY_ELEMENTS:
        return _Made(f"<{name}{written}>")
    return _Made(f"<{name}{written}>{group(children)}</{name}>")


def group(children: Iterable[Child]) -> Html:
    """Put one after another."""
    return _Made(
        "".join(str(child if isinstance(child, Html) else Html(child)) for child in children)
    )


def packed_element(name: Literal["script", "style"], source: str) -> Html:
    """Make an element of a file of this package; nothing else may come here, for it is not escaped.

    Raises:
        InvalidArgument: the file could end the element.
    """
    if "</" in source or "<!--" in source:
        raise InvalidArgument(name, "holds what ends the element")
    return _Made(f"<{name}>{source}</{name}>")


def _attribute(name: str, value: Value) -> str:
    if name not in ATTRIBUTES:
        raise InvalidArgument(name, "is no attribute of a page")
    if isinstance(value, bool):
        return f" {name}" if value else ""
    text = str(value)
    if name in PATTERNS and not PATTERNS[name].fullmatch(text):
        raise InvalidArgument(name, "leads out of the page, or is no identifier")
    return f' {name}="{escape(visible(text), quote=True)}"'
