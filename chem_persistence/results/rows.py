"""A row of results: a flow, its input, and the output of one of its steps."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, TypeVar
from uuid import UUID

import msgspec

from chem_persistence.domain.artifacts import Artifact
from chem_persistence.domain.canonical_json.careful import MAX_INTEGER
from chem_persistence.domain.canonical_json.encode import canonical_json
from chem_persistence.domain.events import StepError
from chem_persistence.domain.flow_state import FlowState
from chem_persistence.errors import InvalidArgument

__all__ = ["FIRST_COLUMNS", "LAST_COLUMNS", "Cell", "ResultRow", "cells_of"]

Decoded = TypeVar("Decoded")

Cell = bool | int | float | str | list[str] | None
"""The value of a row in a column; a list of one text is an object or array, as JSON text."""

FIRST_COLUMNS = ("label", "item")
LAST_COLUMNS = ("state", "invalidated", "failed_step", "error", "began", "flow_id", "run")
"""The columns that every table has, before and after those of the inputs and the outputs."""

_TAKEN = frozenset({*FIRST_COLUMNS, *LAST_COLUMNS, "input", "output"})


class ResultRow(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a flow: its state, its input, and the output of the step that is asked for.

    The flow `flow_id` is the `run` itself (`item` is None), or the child that a map of the run has
    for the item `item`, from 0. `label` is the run's. `input` and `output` are JSON values, of
    which `input_hash` and `output_hash` are the artifacts; without an artifact, or with one that is
    not JSON, they are None. `invalidated` is whether the result was declared invalid, here or in
    the flow from which it was taken over. `failed_step` and `failure` are set while a step has
    failed.
    """

    flow_id: UUID
    run: UUID
    item: int | None
    label: str | None
    state: FlowState
    invalidated: bool
    began: datetime
    input: Any
    output: Any
    input_hash: str | None
    output_hash: str | None
    failed_step: str | None
    failure: StepError | None

    def decode(self, as_type: type[Decoded]) -> Decoded:
        """Return the output as a value of a type, as `Artifact.decode` does.

        Raises:
            InvalidArgument: there is no output, or msgspec cannot decode the type.
            InvalidPayload: the output is not such a value; the message names the path.
        """
        if self.output is None:
            raise InvalidArgument("row", f"flow {self.flow_id}, {self.state}, has no such output")
        artifact = Artifact(hash=str(self.output_hash), kind="output", payload=self.output)
        return artifact.decode(as_type)


def cells_of(row: ResultRow) -> dict[str, Cell]:
    """Return the values of a row by the names of their columns.

    A field `x` of the input is in the column `input.x`, one of the output in `x`, or in `output.x`
    if the table has another column of that name. An input or output that is no object is in a
    column `input` or `output`.
    """
    failure = row.failure
    return {
        "label": row.label,
        "item": row.item,
        **_fields(row.input, "input"),
        **_fields(row.output, "output"),
        "state": str(row.state),
        "invalidated": row.invalidated,
        "failed_step": row.failed_step,
        "error": None if failure is None else f"{failure.error_class}: {failure.message}",
        "began": row.began.isoformat(),
        "flow_id": str(row.flow_id),
        "run": str(row.run),
    }


def _fields(value: Any, of: str) -> Mapping[str, Cell]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        return {of: _cell(value)}
    return {_column(name, of): _cell(part) for name, part in value.items()}


def _column(name: str, of: str) -> str:
    is_free = name and name not in _TAKEN and not name.startswith(("input.", "output."))
    return name if of == "output" and is_free else f"{of}.{name}"


def _cell(value: Any) -> Cell:
    if isinstance(value, dict | list):
        return [canonical_json(value).decode()]
    if type(value) is int and abs(value) > MAX_INTEGER:
        return float(value)  # as JSON writes a large float: its digits are not all significant
    scalar: bool | int | float | str | None = value
    return scalar
