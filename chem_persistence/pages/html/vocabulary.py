"""The elements and attributes of a page: none that loads, runs or submits.

A page links to nothing but itself, pages of other flows in its folder, named by their ids, and, if
the explorer serves it, to the list of flows, to artifacts and to its actions.
"""

import re
from typing import Final

__all__ = ["ATTRIBUTES", "ELEMENTS", "EMPTY_ELEMENTS", "PATTERNS"]

ELEMENTS: Final = frozenset(
    re.findall(
        r"\S+",
        """a article body button code dd details div dl dt figcaption figure footer h1 h2 h3 h4
        head header html img input label li link main meta nav ol option p pre section select span
        strong summary table tbody td th thead time title tr ul wbr
        circle line path rect svg text""",
    )
)

EMPTY_ELEMENTS: Final = frozenset({"img", "input", "link", "meta", "wbr"})

ATTRIBUTES: Final = frozenset(
    re.findall(
        r"\S+",
        """alt aria-hidden aria-label aria-labelledby charset class content cx cy d data-kind
        datetime focusable height hidden href http-equiv id lang name r rel role rx scope src type
        value viewBox width x x1 x2 y y1 y2""",
    )
)

PATTERNS: Final = {
    "href": re.compile(
        r"#[a-z][a-z0-9-]*|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\.html|data:,"
        r"|\.\./(?:artifacts/[0-9a-f]{64})?|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}/actions"
    ),
    "src": re.compile(r"data:image/(?:png|jpeg);base64,[A-Za-z0-9+/]+={0,2}"),
    "id": re.compile(r"[a-z][a-z0-9-]*"),
    "class": re.compile(r"[a-z][a-z -]*"),
    "type": re.compile(r"search|button"),
}
"""The values allowed for an attribute whose value a browser acts on."""
