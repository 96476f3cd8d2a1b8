"""What an artifact's body is to a person: a molecule, a model in space, a table, a plot, a text."""

import csv
import io
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

from chem_persistence.domain.artifacts import Artifact
from chem_persistence.errors import InvalidArgument
from chem_persistence.pages.previews.artifact_previews import text_preview
from chem_persistence.pages.previews.molecules import Molecules
from chem_persistence.views.flow_view import MoleculeView, TextPreview, json_text

__all__ = ["SPATIAL", "Body", "Plot", "body_of"]

SPATIAL: Final = {
    "chemical/x-mdl-molfile": "sdf",
    "chemical/x-mdl-sdfile": "sdf",
    "chemical/x-mol2": "mol2",
    "chemical/x-pdb": "pdb",
    "chemical/x-xyz": "xyz",
    "chemical/x-cif": "cif",
}
"""The media types that 3Dmol.js reads, with its names for them."""

MOST_MOLECULES = 12
MOST_ROWS = 100
MOST_COLUMNS = 30
MOST_TEXT = 20_000
MOST_POINTS = 500
FEWEST_POINTS = 3
WIDTH, HEIGHT = 640.0, 200.0


@dataclass(frozen=True)
class Plot:
    """A series as the points of a polyline, and its range."""

    name: str
    points: str
    count: int
    least: float
    greatest: float


@dataclass
class Body:
    """The parts of an artifact's body that can be shown; all may be empty."""

    molecules: tuple[MoleculeView, ...] = ()
    format: str = ""
    columns: list[str] = field(default_factory=list)
    rows: list[list[str]] = field(default_factory=list)
    row_count: int = 0
    plots: list[Plot] = field(default_factory=list)
    text: TextPreview | None = None


def body_of(artifact: Artifact) -> Body:
    """Return what can be shown of an artifact; it may take a second, so call it in a thread."""
    molecules = Molecules(MOST_MOLECULES)
    molecules.look_into(artifact)
    body = Body(molecules=molecules.drawn())
    if artifact.content is None:
        _take_table(body, artifact.payload)
        body.plots = list(_plots(artifact.payload))
        body.text = json_text(artifact.encoded(), MOST_TEXT)
        return body
    body.format = SPATIAL.get(artifact.media_type, "")
    with suppress(InvalidArgument):
        body.plots = list(_plots({"values": artifact.to_array().tolist()}))
    preview = text_preview(artifact.content, MOST_TEXT)
    if isinstance(preview, TextPreview):
        if artifact.media_type == "text/csv":
            _take_rows(body, list(csv.reader(io.StringIO(artifact.content.decode()))))
        else:
            body.text = preview
    return body


def _take_table(body: Body, payload: Any) -> None:
    """Take the list of objects that a payload is, or that one of its members is, as a table."""
    members = [payload, *(payload.values() if isinstance(payload, dict) else ())]
    for member in members:
        if isinstance(member, list) and member and all(isinstance(row, dict) for row in member):
            names = list(dict.fromkeys(name for row in member[:MOST_ROWS] for name in row))
            cells = [[_cell(row.get(name)) for name in names] for row in member[:MOST_ROWS]]
            _take_rows(body, [names, *cells], len(member))
            return


def _take_rows(body: Body, rows: Sequence[Sequence[str]], count: int | None = None) -> None:
    if rows:
        body.columns = list(rows[0][:MOST_COLUMNS])
        body.rows = [list(row[:MOST_COLUMNS]) for row in rows[1 : MOST_ROWS + 1]]
        body.row_count = len(rows) - 1 if count is None else count


def _cell(value: Any) -> str:
    return "" if value is None else str(value)


def _plots(payload: Any) -> Iterator[Plot]:
    """Yield the lists of numbers that a payload is, or has as members."""
    members = payload.items() if isinstance(payload, dict) else [("values", payload)]
    for name, member in members:
        if (
            isinstance(member, list)
            and len(member) >= FEWEST_POINTS
            and all(map(_is_number, member))
        ):
            yield _plot(str(name), member)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300


def _plot(name: str, values: Sequence[float]) -> Plot:
    least, greatest = min(values), max(values)
    span = (greatest - least) or 1.0
    stride = max(1, len(values) // MOST_POINTS)
    last = max(len(values) - 1, 1)
    points = " ".join(
        f"{place / last * WIDTH:.1f},{(1 - (value - least) / span) * HEIGHT:.1f}"
        for place, value in list(enumerate(values))[::stride]
    )
    return Plot(name, points, len(values), least, greatest)
