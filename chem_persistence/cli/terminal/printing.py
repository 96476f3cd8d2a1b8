"""Tables, lines and JSON: fitted to a terminal, whole and without colours elsewhere."""

import json
import os
import sys
from collections.abc import Iterable, Sequence
from typing import Any, Literal, NamedTuple, TextIO

import msgspec

from chem_persistence.cli.terminal.styled import Text, escaped, width_of
from chem_persistence.cli.terminal.text import has_box_characters, shown

__all__ = [
    "GAP",
    "Cell",
    "Column",
    "bar",
    "column",
    "output_width",
    "print_json",
    "print_line",
    "print_table",
    "shown_state",
]

Cell = str | Text

ENDLESS = 10_000
"""The width of output that is not a terminal: nothing is cut or wrapped there."""

USUAL = 80
"""The width of a terminal that does not say how wide it is."""

GAP = 2
"""Between two columns."""

LEAST = 8
"""The least width of a column that gives way."""

LONGEST_WORD = 24
"""A text that folds is not made so narrow that a word of this length breaks."""

_STATE_STYLES = {
    "completed": "green",
    "finished": "green",
    "ok": "green",
    "running": "yellow",
    "waiting": "blue",
    "warning": "yellow",
    "failed": "red",
    "cancelled": "magenta",
    "error": "red",
    "awaiting_user_input": "cyan",
    "note": "cyan",
}


class Column(NamedTuple):
    """A column of a table; `overflow` is how its cells give way, None if they do not."""

    name: str
    justify: Literal["left", "right"]
    overflow: Literal["fold", "crop", "ellipsis"] | None


def shown_state(state: str, text: str | None = None) -> Text:
    """Return a state, or another text for it, in its colour."""
    return Text(shown(text or state), style=_STATE_STYLES.get(state, ""))


def bar(length: float) -> str:
    """Return a bar of about so many characters, in a character that the output can encode."""
    return ("━" if has_box_characters() else "=") * round(length)


def output_width(most: int = ENDLESS, output: TextIO | None = None) -> int:
    """Return the width of an output: COLUMNS, else that of the terminal, else `most`."""
    output = sys.stdout if output is None else output
    if (columns := os.environ.get("COLUMNS", "")).isdecimal():
        return int(columns)
    if not output.isatty():
        return most
    try:
        return os.get_terminal_size(output.fileno()).columns or USUAL
    except OSError:
        return USUAL


def column(
    name: str, *, right: bool = False, fold: bool = False, cut: bool = False, ids: bool = False
) -> Column:
    """Describe a column of a table.

    Where the terminal is too narrow, `ids` are shortened first, to prefixes that differ from each
    other; then texts that may `fold`, or be `cut`, give way. Other cells are never shortened.
    """
    return Column(
        name,
        "right" if right else "left",
        "fold" if fold else "crop" if ids else "ellipsis" if cut else None,
    )


def print_table(
    columns: Sequence[Column], rows: Iterable[Sequence[Cell]], *, heading: bool = True
) -> None:
    """Print a table, at most as wide as the terminal or COLUMNS; elsewhere its cells are whole.

    If not even the narrowest table fits, each row is printed as lines of names and values.
    """
    drawn = [[Text().append(cell) for cell in row] for row in rows]
    widths = _widths(columns, drawn, output_width(), heading=heading)
    if widths is None:
        _print_records(columns, drawn)
        return
    headings = [[Text(each.name, "bold") for each in columns]] if heading else []
    lines = _lines(columns, [*headings, *drawn], widths)
    if lines is None:
        _print_folded(columns, drawn, widths, heading=heading)
    else:
        _print(lines)


def _lines(
    columns: Sequence[Column], rows: Sequence[Sequence[Text]], widths: Sequence[int]
) -> Text | None:
    """Return the rows as lines; None if a cell takes more than one line."""
    lines = Text()
    for number, row in enumerate(rows):
        lines.append("\n" if number else "")
        for place, (each, cell, width) in enumerate(zip(columns, row, widths, strict=True)):
            if "\n" in cell.plain or (cell.width > width and each.overflow in {None, "fold"}):
                return None
            fitting = cell.cut(width, "" if each.overflow == "crop" else "…")
            missing = width - fitting.width
            before, after = (missing, 0) if each.justify == "right" else (0, missing)
            lines.append(" " * (before + GAP * bool(place))).append(fitting).append(" " * after)
    return lines


def _widths(
    columns: Sequence[Column], rows: Sequence[Sequence[Text]], width: int, *, heading: bool
) -> list[int] | None:
    """Return the width of each column, None if they do not fit: the widest gives way first."""
    widths = [
        max([len(each.name) * heading, *(row[place].width for row in rows)])
        for place, each in enumerate(columns)
    ]
    least = [_least(each, [row[i] for row in rows]) for i, each in enumerate(columns)]
    room = width - GAP * (len(widths) - 1)
    for of_ids in (True, False):
        places = [
            place
            for place, each in enumerate(columns)
            if least[place] is not None and (each.overflow == "crop") is of_ids
        ]
        while sum(widths) > room:
            wider = [place for place in places if widths[place] > (least[place] or 0)]
            if not wider:
                break
            widths[max(wider, key=lambda place: widths[place])] -= 1
    return widths if sum(widths) <= room else None


def _least(column_: Column, cells: Sequence[Text]) -> int | None:
    """Return the least width of a column; None if it may not be narrower than its cells."""
    if column_.overflow is None:
        return None
    texts = {cell.plain for cell in cells}
    if column_.overflow == "crop":
        lengths = range(LEAST, max(map(len, texts), default=0))
        return next((n for n in lengths if len({text[:n] for text in texts}) == len(texts)), None)
    words = [word for text in texts for word in text.split()] if column_.overflow == "fold" else []
    return max([LEAST, *(min(len(word), LONGEST_WORD) for word in words)])


def _print_records(columns: Sequence[Column], rows: Sequence[Sequence[Text]]) -> None:
    """Print each row as lines of a name and a value, which a terminal of any width can wrap."""
    for number, row in enumerate(rows):
        if number:
            print_line("")
        for column_, cell in zip(columns, row, strict=True):
            if cell.plain.strip():
                name = column_.name
                print_line(Text(f"{name}: " if name else "", style="bold"), cell)


def print_line(*parts: Cell, error: bool = False, cut: bool = False) -> None:
    """Print a line of texts, each in its style; a terminal wraps it between words, or cuts it."""
    line = Text()
    for part in parts:
        line.append(part)
    if cut and sys.stdout.isatty():
        line = line.cut(output_width(), "…")
    _print(line, error=error)


def print_json(value: Any) -> None:
    """Print a value as one line of JSON, in which control and format characters are escaped."""
    text = msgspec.json.encode(value).decode()
    if not text.isprintable():
        text = "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in text)
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _print(text: Text, *, error: bool = False) -> None:
    """Print lines; a terminal wraps those that are wider than it is between words."""
    output = sys.stderr if error else sys.stdout
    if output.isatty():
        width = output_width(output=output)
        is_wider = any(width_of(line) > width for line in text.plain.split("\n"))
        if is_wider or os.name == "nt":  # rich knows which terminals of Windows have colours
            from chem_persistence.cli.terminal.folded import wrapped  # noqa: PLC0415 - rich is slow

            _write(wrapped(text, output, width), output)
            return
    _write(escaped(text, output) + "\n", output)


def _print_folded(
    columns: Sequence[Column],
    rows: Sequence[Sequence[Text]],
    widths: Sequence[int],
    *,
    heading: bool,
) -> None:
    from chem_persistence.cli.terminal.folded import folded_table  # noqa: PLC0415 - rich is slow

    output, width = sys.stdout, output_width()
    _write(folded_table(columns, rows, widths, output, width, heading=heading), output)


def _write(text: str, output: TextIO) -> None:
    encoding = output.encoding or "utf-8"
    text = "\n".join(line.rstrip(" ") for line in text.split("\n"))
    output.write(text.encode(encoding, "replace").decode(encoding))
    output.flush()
