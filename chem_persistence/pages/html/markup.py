"""HTML that cannot be written unescaped by mistake.

Every way from a string to markup escapes the string: `Html(text)`, and the children and attributes
of `element` and `group`. The names of elements and attributes are closed sets without scripts,
frames and forms that can be submitted; the value of an attribute is checked if a browser acts on
it. A template engine escapes too, but a template can turn that off (`safe`), any attribute is
accepted (`onclick`, `href="javascript:"`), and no type checker reads it.
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
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e"
    "\u2060-\u206f\ufeff\ufff0-\uffff"
    "\ud800-\udfff\U000e0000-\U000e0fff]"
)


class Html:
    """Markup: a text, escaped."""

    __slots__ = ("_markup",)

    def __init__(self, text: str) -> None:
        self._markup = escape(visible(text), quote=True)

    def __str__(self) -> str:
        return self._markup


class _Made(Html):
    """Markup that this module assembled from escaped parts."""

    __slots__ = ()

    def __init__(self, markup: str) -> None:  # already escaped
        self._markup = markup


Child: TypeAlias = Html | str
Value: TypeAlias = str | int | float | bool


def visible(text: str) -> str:
    r"""Return a text with invisible and reordering characters escaped as in JSON: `\u202e`.

    The source of the list is Unicode TR 36, 2.1.
    """
    return _UNSEEN.sub(lambda match: json.dumps(match[0])[1:-1], text)


def element(name: str, attributes: Mapping[str, Value] | None = None, *children: Child) -> Html:
    """Return an element; an attribute that is False is left out, one that is True has no value.

    Raises:
        InvalidArgument: a page may not have the element, the attribute or its value.
    """
    if name not in ELEMENTS:
        raise InvalidArgument(name, "is not an element that a page may have")
    written = "".join(_attribute(key, value) for key, value in (attributes or {}).items())
    if name in EMPTY_ELEMENTS:
        return _Made(f"<{name}{written}>")
    return _Made(f"<{name}{written}>{group(children)}</{name}>")


def group(children: Iterable[Child]) -> Html:
    """Return the children one after another."""
    return _Made(
        "".join(str(child if isinstance(child, Html) else Html(child)) for child in children)
    )


def packed_element(name: Literal["script", "style"], source: str) -> Html:
    """Return an element whose content is not escaped, and so must be a file of this package.

    Raises:
        InvalidArgument: the content could end the element.
    """
    if "</" in source or "<!--" in source:
        raise InvalidArgument(name, "must not contain '</' or '<!--', which could end the element")
    return _Made(f"<{name}>{source}</{name}>")


def _attribute(name: str, value: Value) -> str:
    if name not in ATTRIBUTES:
        raise InvalidArgument(name, "is not an attribute that a page may have")
    if isinstance(value, bool):
        return f" {name}" if value else ""
    text = str(value)
    if name in PATTERNS and not PATTERNS[name].fullmatch(text):
        raise InvalidArgument(name, f"must match {PATTERNS[name].pattern}, got {text[:80]!r}")
    return f' {name}="{escape(visible(text), quote=True)}"'
