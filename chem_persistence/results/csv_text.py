"""Rows as CSV (RFC 4180, but for the line ends, which are a line feed)."""

import csv
from collections.abc import Mapping
from typing import Protocol

from chem_persistence.results.rows import Cell
from chem_persistence.results.spool import Kind, RowSpool, json_text

__all__ = ["TextSink", "cell_text", "write_csv_text"]

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
"""What a text begins with that a spreadsheet takes for a formula (OWASP, CSV Injection)."""


class TextSink(Protocol):
    """What texts are written to, such as a file that is open for text."""

    def write(self, text: str, /) -> object:
        """Write a text."""


class _Lines:
    """Writes rows that end with CRLF with a line feed instead.

    The writer of the standard library puts only those characters in quotes that end its rows.
    """

    def __init__(self, file: TextSink) -> None:
        self._file = file

    def write(self, row: str) -> object:
        """Write a row."""
        return self._file.write(row.removesuffix("\r\n") + "\n")


def write_csv_text(spool: RowSpool, file: TextSink, *, escape_formulas: bool) -> None:
    """Write a line of names, and one for each row.

    Numbers and texts are written as they are stored. With `escape_formulas` an apostrophe comes
    before a text, or the name of a column, that a spreadsheet would take for a formula.
    """
    columns = spool.columns()
    writer = csv.writer(_Lines(file), lineterminator="\r\n")

    def escaped(text: str, kind: Kind) -> str:
        is_text = kind in {"text", "json"}
        return f"'{text}" if escape_formulas and is_text and text.startswith(_FORMULA) else text

    writer.writerow(escaped(name, "text") for name in columns)
    for cells in spool.read():
        writer.writerow(
            escaped(cell_text(cells, name, kind), kind) for name, kind in columns.items()
        )


def cell_text(cells: Mapping[str, Cell], name: str, kind: Kind) -> str:
    """Return a cell as text: empty if there is none, JSON if the column or the value is JSON."""
    cell = cells.get(name)
    if kind != "json" and isinstance(cell, str):
        return cell
    return json_text(cell) or ""
