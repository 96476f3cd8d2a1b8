"""What commands print: tables and lines that fit a terminal, whole and plain lines elsewhere, or JSON."""

import os
import sys
from collections.abc import Iterable, Sequence
from io import StringIO
from typing import Any

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
"""The width of what is no terminal: nothing is cut or wrapped there."""

GAP = 2
"""Between two columns."""

LEAST = 8
"""A column is not cut to less."""

_STATE_STYLES = {
    "completed": "green",
    "finished": "green",
    "ok": "green",
    "running": "yellow",
    "warning": "yellow",
    "failed": "red",
    "error": "red",
    "awaiting_user_input": "cyan",
    "note": "cyan",
}


def shown_state(state: str) -> Text:
    """Show a state in its colour."""
    return Text(shown(state), style=_STATE_STYLES.get(state, ""))


def bar(length: float) -> str:
    """Draw a bar of about so many characters, in characters that the output has."""
    return ("━" if has_box_characters() else "=") * round(length)


def output_width(most: int = ENDLESS) -> int:
    """Give how many characters a line of standard output has, where it is no terminal at most so many."""
    if sys.stdout.isatty() or os.environ.get("COLUMNS"):
        return Console(file=sys.stdout).width
    return most


def column(name: str, *, right: bool = False, fold: bool = False, cut: bool = False) -> Column:
    """Describe a column: its cells stay whole and on one line, unless they may fold, or be cut where there is no room."""
    return Column(
        name,
        justify="right" if right else "left",
        no_wrap=not fold,
        overflow="fold" if fold else "ellipsis",
        min_width=1 if cut or fold else None,
    )


def print_table(
    columns: Sequence[Column], rows: Iterable[Sequence[Cell]], *, heading: bool = True
) -> None:
    """Print a table, as wide as a terminal at most; elsewhere whole, unless COLUMNS says how wide that is."""
    table = Table(*columns, box=None, pad_edge=False, padding=(0, GAP, 0, 0), show_header=heading)
    table.header_style = "bold"
    drawn = [[Text(cell) if isinstance(cell, str) else cell for cell in row] for row in rows]
    for row in drawn:
        table.add_row(*row)
    _fit(table, drawn, output_width())
    _print(table)


def _fit(table: Table, rows: Sequence[Sequence[Text]], width: int) -> None:
    """Give each column its width: of those that may fold or be cut, the widest gives way first."""
    names = [len(str(column.header)) if table.show_header else 0 for column in table.columns]
    widths = [
        max([name, *(row[place].cell_len for row in rows)]) for place, name in enumerate(names)
    ]
    yielding = [place for place, column in enumerate(table.columns) if column.min_width is not None]
    room = width - GAP * (len(widths) - 1)
    while yielding and sum(widths) > room:
        widest = max(yielding, key=lambda place: widths[place])
        if widths[widest] <= LEAST:
            break
        widths[widest] -= 1
    for column_, own in zip(table.columns, widths, strict=True):
        column_.width = own


def print_line(*parts: Cell, error: bool = False, cut: bool = False) -> None:
    """Print a line of texts, each in its style; a terminal wraps it between words, or cuts it."""
    line = Text.assemble(*(Text(part) if isinstance(part, str) else part for part in parts))
    if cut and sys.stdout.isatty():
        line.truncate(output_width(), overflow="ellipsis")
    _print(line, error=error)


def print_json(value: Any) -> None:
    """Print a value as one line of JSON."""
    sys.stdout.write(msgspec.json.encode(value).decode() + "\n")
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
