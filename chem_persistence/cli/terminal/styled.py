"""Texts with styles, and the escape sequences that a terminal is sent for them.

rich does this too. Its import takes longer than an answer of the database, so `printing` uses it
only for what it does better: texts that are folded.
"""

import os
from collections.abc import Collection
from typing import Self, TextIO

__all__ = ["Text", "escaped", "width_of"]

_CODES = {
    "bold": "1",
    "dim": "2",
    "red": "31",
    "green": "32",
    "yellow": "33",
    "blue": "34",
    "magenta": "35",
    "cyan": "36",
}
"""The codes of ECMA-48, section 8.3.117 (SGR), in the order in which rich sends them."""

_ATTRIBUTES = frozenset({"bold", "dim"})
_DUMB = frozenset({"dumb", "unknown"})


class Text:
    """A text in pieces, each with names of styles, such as `green dim`."""

    __slots__ = ("pieces", "style")

    def __init__(self, text: str = "", style: str = "") -> None:
        self.style = style
        self.pieces: list[tuple[str, str]] = [(text, style)] if text else []

    def append(self, text: "str | Text", style: str = "") -> Self:
        """Add a text at the end, in the first text's style unless it has one of its own."""
        if isinstance(text, Text):
            self.pieces += text.pieces
        elif text:
            self.pieces.append((text, style or self.style))
        return self

    @property
    def plain(self) -> str:
        """The text without its styles."""
        return "".join(text for text, _ in self.pieces)

    @property
    def width(self) -> int:
        """How many cells of a terminal it takes."""
        return width_of(self.plain)

    def cut(self, width: int, end: str = "") -> "Text":
        """Return as much of it as fits into so many cells, with `end` if it was longer."""
        if self.width <= width:
            return self
        left, shorter = width - width_of(end), Text(style=self.style)
        for text, style in self.pieces:
            piece = _beginning(text, left)
            shorter.append(piece, style)
            left -= width_of(piece)
            if len(piece) < len(text):
                break
        return shorter.append(end, self.style)


def width_of(text: str) -> int:
    """Return how many cells of a terminal a text takes."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len  # noqa: PLC0415 - for few texts

    return cell_len(text)


def _beginning(text: str, width: int) -> str:
    if text.isascii():
        return text[: max(0, width)]
    from rich.cells import cell_len, set_cell_size  # noqa: PLC0415 - for few texts

    return text if cell_len(text) <= width else set_cell_size(text, max(0, width))


def escaped(text: Text, output: TextIO) -> str:
    """Return a text with escape sequences for its styles, if this output is a terminal with them.

    FORCE_COLOR makes any output such a terminal, NO_COLOR leaves out colours (force-color.org,
    no-color.org).
    """
    forced = os.environ.get("FORCE_COLOR")
    is_terminal = output.isatty() if forced is None else bool(forced)
    if not is_terminal or os.environ.get("TERM", "").lower() in _DUMB:
        return text.plain
    known = _ATTRIBUTES if os.environ.get("NO_COLOR") else _CODES.keys()
    return "".join(_piece(piece, style, known) for piece, style in text.pieces)


def _piece(text: str, style: str, known: Collection[str]) -> str:
    wanted = style.split()
    codes = [code for name, code in _CODES.items() if name in wanted and name in known]
    return f"\x1b[{';'.join(codes)}m{text}\x1b[0m" if codes else text
