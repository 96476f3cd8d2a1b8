"""Rows of results as a table on the terminal.

It is not drawn by rich, which takes a millisecond for each row.
"""

import sys
from collections.abc import Iterable, Mapping, Sequence

from rich.cells import cell_len, set_cell_size

from chem_persistence.cli.terminal.printing import ENDLESS, GAP, LEAST, output_width, print_line
from chem_persistence.cli.terminal.text import has_box_characters, one_line, shown
from chem_persistence.results.csv_text import cell_text
from chem_persistence.results.rows import FIRST_COLUMNS, LAST_COLUMNS, Cell
from chem_persistence.results.spool import Kind, RowSpool, is_of_input
from chem_persistence.views.wording import counted

__all__ = ["print_result_table"]

WIDEST = 32
"""On a terminal, a column with longer texts is first given so many characters."""

_IDS = ("flow_id", "run")
_LAST_TO_FIT = ("failed_step", "began", "run")


def print_result_table(spool: RowSpool, limit: int) -> None:
    """Print the first rows, at most `limit`, with as many columns as fit, and what is left out."""
    kinds = spool.columns()
    rows = [cells for cells, _ in zip(spool.read(), range(limit), strict=False)]
    if not rows:
        print_line("no results")
        return
    texts = {name: [_text(cells, name, kind) for cells in rows] for name, kind in kinds.items()}
    filled = [name for name in kinds if any(texts[name])]
    if "true" not in texts["invalidated"]:
        filled.remove("invalidated")
    if texts["run"] == texts["flow_id"]:
        filled.remove("run")
    widths = _widths(filled, texts)
    rights = {name for name in widths if kinds[name] in {"integer", "number"}}
    columns = [
        [_fitted(text, size, name, right=name in rights) for text in (shown(name), *texts[name])]
        for name, size in widths.items()
    ]
    _write(zip(*columns, strict=True))
    if left := [name for name in filled if name not in widths]:
        print_line(f"{counted(len(left), 'column')} more: {', '.join(map(shown, left))}")
    if spool.rows > limit:
        print_line(f"there are more: --limit {10 * limit}")


def _text(cells: Mapping[str, Cell], name: str, kind: Kind) -> str:
    text = cell_text(cells, name, kind)
    if kind == "time":
        return text[:19].replace("T", " ")
    return text if text.isprintable() else shown(one_line(text))


def _widths(names: Sequence[str], texts: Mapping[str, Sequence[str]]) -> dict[str, int]:
    """Return the columns that fit, in their order, with their widths; the outputs come first."""
    whole = {name: max(cell_len(shown(name)), *map(cell_len, texts[name])) for name in names}
    left, widths = output_width(), dict[str, int]()
    for name in sorted(names, key=_rank):
        least = whole[name]
        if left < ENDLESS:
            least = min(least, _prefix(texts[name]) if name in _IDS else max(WIDEST, len(name)))
        if widths and left < least:
            break
        widths[name] = min(least, left)
        left -= widths[name] + GAP
    for name, size in widths.items():
        widths[name] = min(whole[name], size + max(0, left + GAP))
        left -= widths[name] - size
    return {name: widths[name] for name in names if name in widths}


def _rank(name: str) -> int:
    if name in _LAST_TO_FIT:
        return 3
    if name in {*FIRST_COLUMNS, *LAST_COLUMNS}:
        return 1
    return 2 if is_of_input(name) else 0


def _prefix(ids: Iterable[str]) -> int:
    """Return how many characters tell ids from each other, or 8 if fewer do."""
    different = set(ids)
    lengths = range(LEAST, 36)
    return next((n for n in lengths if len({each[:n] for each in different}) == len(different)), 36)


def _fitted(text: str, width: int, name: str, *, right: bool) -> str:
    """Return a text with the width of its column; an id is cut so that it can be typed."""
    length = cell_len(text)
    if length > width:
        if name in _IDS:
            return text[:width]
        return set_cell_size(text, width - 1) + ("…" if has_box_characters() else "~")
    return " " * (width - length) + text if right else text + " " * (width - length)


def _write(lines: Iterable[Sequence[str]]) -> None:
    encoding = sys.stdout.encoding or "utf-8"
    gap = " " * GAP
    for cells in lines:
        line = gap.join(cells).rstrip(" ")
        sys.stdout.write(line.encode(encoding, "replace").decode(encoding) + "\n")
    sys.stdout.flush()
