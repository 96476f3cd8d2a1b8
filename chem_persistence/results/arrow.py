"""Rows as Arrow record batches and Parquet files, by pyarrow (the extra `table`)."""

import importlib
from collections.abc import Iterator, Mapping
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any

from chem_persistence.errors import InvalidArgument
from chem_persistence.results.rows import Cell
from chem_persistence.results.spool import Kind, RowSpool, json_text

__all__ = ["arrow_table", "needed_module", "write_parquet_file"]

ROWS_A_BATCH = 4_096
BYTES_A_GROUP = 64 * 2**20
"""The bytes of batches, as Arrow keeps them, that one row group of a Parquet file has, or more."""


def needed_module(name: str) -> Any:
    """Import a module of pyarrow, which is not typed.

    Raises:
        InvalidArgument: pyarrow is not installed; the message has the command that does it.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        reason = "needs pyarrow: pip install 'chem-persistence[table]'"
        raise InvalidArgument("Arrow", reason) from error


def arrow_table(spool: RowSpool) -> Any:
    """Return all rows as a `pyarrow.Table`."""
    arrow = needed_module("pyarrow")
    schema = _schema(arrow, spool.columns())
    return arrow.Table.from_batches(_batches(arrow, schema, spool), schema)


def write_parquet_file(spool: RowSpool, path: Path) -> None:
    """Write all rows to a Parquet file, a few thousand of them in memory.

    Raises:
        OSError: the file cannot be written.
    """
    arrow, parquet = needed_module("pyarrow"), needed_module("pyarrow.parquet")
    schema = _schema(arrow, spool.columns())
    with parquet.ParquetWriter(path, schema) as writer:
        group: list[Any] = []
        for batch in _batches(arrow, schema, spool):
            group.append(batch)
            if sum(each.nbytes for each in group) > BYTES_A_GROUP:
                writer.write_table(arrow.Table.from_batches(group, schema))
                group = []
        writer.write_table(arrow.Table.from_batches(group, schema))


def _schema(arrow: Any, columns: Mapping[str, Kind]) -> Any:
    types = {
        "boolean": arrow.bool_(),
        "integer": arrow.int64(),
        "number": arrow.float64(),
        "text": arrow.string(),
        "json": arrow.string(),
        "time": arrow.timestamp("us", tz="UTC"),
    }
    json = {"format": "JSON"}
    return arrow.schema(
        [
            arrow.field(name, types[kind], metadata=json if kind == "json" else None)
            for name, kind in columns.items()
        ]
    )


def _batches(arrow: Any, schema: Any, spool: RowSpool) -> Iterator[Any]:
    columns, rows = spool.columns(), spool.read()
    while part := list(islice(rows, ROWS_A_BATCH)):
        yield arrow.record_batch(
            [[_value(cells.get(name), kind) for cells in part] for name, kind in columns.items()],
            schema=schema,
        )


def _value(cell: Cell, kind: Kind) -> object:
    if cell is None:
        return None
    match kind:
        case "json":
            return json_text(cell)
        case "time":
            return datetime.fromisoformat(str(cell))
        case "number":
            return float(cell) if isinstance(cell, int) else cell
        case _:
            return cell
