"""Rows in a temporary file, until it is known which columns they have."""

import tempfile
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Self

import msgspec

from chem_persistence.results.rows import (
    FIRST_COLUMNS,
    LAST_COLUMNS,
    Cell,
    ResultRow,
    cells_of,
)

__all__ = ["Kind", "RowSpool", "is_of_input", "json_text"]

Kind = str
"""What a column holds: `boolean`, `integer`, `number`, `text`, `time`, or `json`: JSON text."""

IN_MEMORY = 8 * 2**20
"""The bytes of rows that are kept in memory; more are written to a file."""

_FIXED: dict[str, Kind] = dict.fromkeys((*FIRST_COLUMNS, *LAST_COLUMNS), "text")
_FIXED |= {"item": "integer", "invalidated": "boolean", "began": "time"}
_KINDS: dict[type, Kind] = {
    bool: "boolean",
    int: "integer",
    float: "number",
    str: "text",
    list: "json",
}

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(dict[str, Cell]).decode


class RowSpool:
    """Rows that are written once and then read any number of times, and the kinds of their columns.

    Only the rows that are in progress are in memory. To be used as a context manager, which removes
    the file.
    """

    def __init__(self) -> None:
        self._file = tempfile.SpooledTemporaryFile(IN_MEMORY)  # noqa: SIM115  # closed by __exit__
        self._kinds: dict[str, set[Kind]] = {}
        self.rows = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        error_class: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._file.close()

    def add(self, rows: Iterable[ResultRow]) -> None:
        """Write rows at the end."""
        for row in rows:
            cells = cells_of(row)
            for name, cell in cells.items():
                if name not in _FIXED:
                    kinds = self._kinds.setdefault(name, set())
                    if cell is not None:
                        kinds.add(_KINDS[type(cell)])
            self._file.write(_encode(cells) + b"\n")
            self.rows += 1

    def columns(self) -> dict[str, Kind]:
        """Return the columns of the rows written, in the order of the table, with their kinds."""
        names = sorted(self._kinds, key=lambda name: (not is_of_input(name), name))
        return (
            {name: _FIXED[name] for name in FIRST_COLUMNS}
            | {name: _kind(self._kinds[name]) for name in names}
            | {name: _FIXED[name] for name in LAST_COLUMNS}
        )

    def read(self) -> Iterator[dict[str, Cell]]:
        """Yield the cells of each row in the order written; a column that it lacks is empty."""
        self._file.seek(0)
        for line in self._file:
            yield _decode(line)


def is_of_input(name: str) -> bool:
    """Return whether a column is of the input of a row."""
    return name == "input" or name.startswith("input.")


def _kind(kinds: set[Kind]) -> Kind:
    """Return the kind of a column with cells of these kinds; cells that differ are JSON text."""
    if len(kinds) <= 1:
        return next(iter(kinds), "text")
    return "number" if kinds == {"integer", "number"} else "json"


def json_text(cell: Cell) -> str | None:
    """Return a cell as JSON text; an empty one is None."""
    if isinstance(cell, list):
        return cell[0]
    return None if cell is None else _encode(cell).decode()
