"""Texts and tables whose lines are folded to the width of a terminal, which rich does.

It is imported only then: see styled.py.
"""

from collections.abc import Sequence
from io import StringIO
from typing import TextIO

from rich.console import Console, RenderableType
from rich.table import Column as RichColumn
from rich.table import Table
from rich.text import Text as RichText

from chem_persistence.cli.terminal.printing import GAP, Column
from chem_persistence.cli.terminal.styled import Text

__all__ = ["folded_table", "wrapped"]


def wrapped(text: Text, output: TextIO, width: int) -> str:
    """Return a text whose lines are wrapped between words to the width of a terminal."""
    return _drawn(_of_rich(text), output, width)


def folded_table(
    columns: Sequence[Column],
    rows: Sequence[Sequence[Text]],
    widths: Sequence[int],
    output: TextIO,
    width: int,
    *,
    heading: bool,
) -> str:
    """Return a table whose cells are folded to the widths of their columns."""
    drawn = [
        RichColumn(
            each.name,
            justify=each.justify,
            no_wrap=each.overflow != "fold",
            overflow=each.overflow or "ellipsis",
            width=own,
        )
        for each, own in zip(columns, widths, strict=True)
    ]
    table = Table(*drawn, box=None, pad_edge=False, padding=(0, GAP, 0, 0), show_header=heading)
    table.header_style = "bold"
    for row in rows:
        table.add_row(*map(_of_rich, row))
    return _drawn(table, output, width)


def _of_rich(text: Text) -> RichText:
    return RichText.assemble(*text.pieces)


def _drawn(what: RenderableType, output: TextIO, width: int) -> str:
    drawn, like = StringIO(), Console(file=output)  # asks the terminal what it can do
    console = Console(
        file=drawn,
        width=width,
        force_terminal=like.is_terminal,
        color_system=like.color_system,  # type: ignore[arg-type]  # what it found is what it takes
        legacy_windows=False,
        highlight=False,
        emoji=False,
        markup=False,
    )
    console.print(what)
    return drawn.getvalue()
