"""Tables, lines and JSON: fitted to a terminal, whole and without colours elsewhere."""

import json
import os
import sys
from collections.abc import Iterable, Sequence
from io import StringIO
from typing import Any, Literal

import msgspec
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from chem_persistence.cli.terminal.text import has_box_characters, shown

__all__ = [
    "Cell",
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


def shown_state(state: str) -> Text:
    """Return a state in its colour."""
    return Text(shown(state), style=_STATE_STYLES.get(state, ""))


def bar(length: float) -> str:
    """Return a bar of about so many characters, in a character that the output can encode."""
    return ("━" if has_box_characters() else "=") * round(length)


def output_width(most: int = ENDLESS) -> int:
    """Return the width of standard output: of the terminal, else COLUMNS, else `most`."""
    if sys.stdout.isatty() or os.environ.get("COLUMNS"):
        return Console(file=sys.stdout).width
    return most


def column(
    name: str, *, right: bool = False, fold: bool = False, cut: bool = False, ids: bool = False
) -> Column:
    """Describe a column of a table.

    Where the terminal is too narrow, `ids` are shortened first, to prefixes that differ from each
    other; then texts that may `fold`, or be `cut`, give way. Other cells are never shortened.
    """
    overflow: Literal["fold", "crop", "ellipsis"] = (
        "fold" if fold else "crop" if ids else "ellipsis"
    )
    return Column(
        name,
        justify="right" if right else "left",
        no_wrap=not fold,
        overflow=overflow,
        min_width=1 if cut or fold or ids else None,
    )


def print_table(
    columns: Sequence[Column], rows: Iterable[Sequence[Cell]], *, heading: bool = True
) -> None:
    """Print a table, at most as wide as the terminal or COLUMNS; elsewhere its cells are whole.

    If not even the narrowest table fits, each row is printed as lines of names and values.
    """
    table = Table(*columns, box=None, pad_edge=False, padding=(0, GAP, 0, 0), show_header=heading)
    table.header_style = "bold"
    drawn = [list(map(Text.assemble, row)) for row in rows]
    if not _fit(table, drawn, output_width()):
        _print_records(columns, drawn)
    elif lines := _lines(table, drawn):
        _print(lines)
    else:
        for cells in drawn:
            table.add_row(*cells)
        _print(table)


def _lines(table: Table, rows: Sequence[Sequence[Text]]) -> Text | None:
    """Return the rows as lines; None if a cell takes more than one line, or is cut.

    Drawing a `Table` takes ten times as long, which shows with thousands of rows.
    """
    lines = Text()
    headers: list[Sequence[Text | Column]] = [table.columns] if table.show_header else []
    for number, row in enumerate([*headers, *rows]):
        lines.append("\n" if number else "")
        for place, (each, given) in enumerate(zip(table.columns, row, strict=True)):
            cell = given if isinstance(given, Text) else Text(str(given.header), style="bold")
            missing = (each.width or 0) - cell.cell_len
            if missing < 0 or "\n" in cell.plain:
                return None
            before, after = (missing, 0) if each.justify == "right" else (0, missing)
            lines.append(" " * (before + GAP * bool(place)))
            lines.append_text(cell).append(" " * after)
    return lines


def _fit(table: Table, rows: Sequence[Sequence[Text]], width: int) -> bool:
    """Set the width of each column, and return whether they fit: the widest gives way first."""
    widths = [
        max([len(str(column.header)) * table.show_header, *(row[place].cell_len for row in rows)])
        for place, column in enumerate(table.columns)
    ]
    least = [_least(column, [row[i] for row in rows]) for i, column in enumerate(table.columns)]
    room = width - GAP * (len(widths) - 1)
    for of_ids in (True, False):
        places = [
            place
            for place, column in enumerate(table.columns)
            if least[place] is not None and (column.overflow == "crop") is of_ids
        ]
        while sum(widths) > room:
            wider = [place for place in places if widths[place] > (least[place] or 0)]
            if not wider:
                break
            widths[max(wider, key=lambda place: widths[place])] -= 1
    for column_, own in zip(table.columns, widths, strict=True):
        column_.width = own
    return sum(widths) <= room


def _least(column_: Column, cells: Sequence[Text]) -> int | None:
    """Return the least width of a column; None if it may not be narrower than its cells."""
    if column_.min_width is None:
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
                name = str(column_.header)
                print_line(Text(f"{name}: " if name else "", style="bold"), cell)


def print_line(*parts: Cell, error: bool = False, cut: bool = False) -> None:
    """Print a line of texts, each in its style; a terminal wraps it between words, or cuts it."""
    line = Text.assemble(*(Text(part) if isinstance(part, str) else part for part in parts))
    if cut and sys.stdout.isatty():
        line.truncate(output_width(), overflow="ellipsis")
    _print(line, error=error)


def print_json(value: Any) -> None:
    """Print a value as one line of JSON, in which control and format characters are escaped."""
    text = msgspec.json.encode(value).decode()
    if not text.isprintable():
        text = "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in text)
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _print(what: Table | Text, *, error: bool = False) -> None:
    output = sys.stderr if error else sys.stdout
    is_cut = output.isatty() or (isinstance(what, Table) and os.environ.get("COLUMNS"))
    drawn = StringIO()
    like = Console(file=output)  # asks the terminal what it can do
    console = Console(
        file=drawn,
        width=like.width if is_cut else ENDLESS,
        force_terminal=like.is_terminal,
        color_system=like.color_system,  # type: ignore[arg-type]  # what it found is what it takes
        legacy_windows=False,
        highlight=False,
        emoji=False,
        markup=False,
    )
    console.print(what)
    encoding = output.encoding or "utf-8"
    text = "\n".join(line.rstrip(" ") for line in drawn.getvalue().split("\n"))
    output.write(text.encode(encoding, "replace").decode(encoding))
    output.flush()
