"""Rows of results as CSV, Arrow and Parquet: names, types and texts of the columns."""

import csv
import io
import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pyarrow as pa
import pyarrow.parquet
import pytest

from chem_persistence import (
    Artifact,
    FlowClient,
    FlowCompleted,
    FlowEventKind,
    FlowInitialized,
    InMemoryEventStore,
    InMemoryFlowRepository,
    InvalidArgument,
    Results,
    StepError,
    StepFailed,
    StepFinished,
)
from chem_persistence.results.spool import IN_MEMORY

FIXED = {"label", "item", "state", "invalidated", "failed_step", "error", "began", "flow_id", "run"}
TIME = datetime(2026, 11, 28, 12, 0, 0, 5, tzinfo=UTC)


class Still:
    """A clock that stands."""

    def now(self) -> datetime:
        return TIME


async def results_of(*outputs: Any, given: Any = None, page_size: int = 2) -> Results:
    """Return the rows of flows with these outputs, in the order of the outputs."""
    store = InMemoryEventStore(clock=Still())
    for number, output in enumerate(outputs):
        made = [Artifact.from_payload(kind="output", payload=output)]
        made += [] if given is None else [Artifact.from_payload(kind="input", payload=given)]
        flow_id = UUID(int=len(outputs) - number)
        first = FlowInitialized("a" * 64, 1, made[-1].hash if given else None, name="logged")
        facts: list[FlowEventKind] = [
            first,
            StepFinished(0, "only", (made[0].hash,), "f" * 64),
            FlowCompleted("e" * 64),
        ]
        await store.append_kinds(flow_id, facts, artifacts=made)
    return FlowClient(store, InMemoryFlowRepository(store)).results("logged", page_size=page_size)


async def table_of(*outputs: Any, **options: Any) -> pa.Table:
    return await (await results_of(*outputs, **options)).to_arrow()


async def csv_of(results: Results, **options: Any) -> list[list[str]]:
    file = io.StringIO(newline="")
    await results.write_csv(file, **options)
    return list(csv.reader(io.StringIO(file.getvalue(), newline="")))


async def test_the_columns_of_a_table_are_those_of_all_rows() -> None:
    table = await table_of({"b": 1}, {"a": "x"}, {"c": True}, given={"smiles": "CCO", "n": 1})
    assert table.column_names == [
        "label",
        "item",
        "input.n",
        "input.smiles",
        "a",
        "b",
        "c",
        "state",
        "invalidated",
        "failed_step",
        "error",
        "began",
        "flow_id",
        "run",
    ]
    assert table["a"].to_pylist() == [None, "x", None]
    assert table["input.smiles"].to_pylist() == ["CCO"] * 3
    assert table["began"].to_pylist() == [TIME] * 3
    assert table["flow_id"].to_pylist() == [str(UUID(int=n)) for n in (3, 2, 1)]


@pytest.mark.parametrize(
    ("values", "kind", "expected"),
    [
        ([1, 2], pa.int64(), [1, 2]),
        ([1, 2.5], pa.float64(), [1.0, 2.5]),
        ([0.1, 2.0], pa.float64(), [0.1, 2.0]),
        ([1, 1e20], pa.float64(), [1.0, 1e20]),
        ([2**53 - 1, None], pa.int64(), [2**53 - 1, None]),
        ([True, False], pa.bool_(), [True, False]),
        (["Å", ""], pa.string(), ["Å", ""]),
        ([None, None], pa.string(), [None, None]),
        ([[1, 2], {"k": "µ"}], pa.string(), ["[1,2]", '{"k":"µ"}']),
        ([1, "one"], pa.string(), ["1", '"one"']),
        ([True, 1], pa.string(), ["true", "1"]),
        (["[1]", [1]], pa.string(), ['"[1]"', "[1]"]),
        ([[1e20], None], pa.string(), ["[100000000000000000000]", None]),
    ],
)
async def test_a_column_has_the_type_that_all_its_values_have(
    values: list[Any], kind: pa.DataType, expected: list[Any]
) -> None:
    table = await table_of(*({"x": value} for value in values))
    assert table.schema.field("x").type == kind
    assert table["x"].to_pylist() == expected


async def test_json_text_is_marked_as_such_in_the_schema() -> None:
    table = await table_of({"x": [1]}, {"y": "text"})
    assert table.schema.field("x").metadata == {b"format": b"JSON"}
    assert table.schema.field("y").metadata is None


async def test_a_field_with_the_name_of_another_column_is_told_apart() -> None:
    names = ["label", "state", "input", "output", "input.x", "output.x", "", "fine"]
    table = await table_of({name: name for name in names}, given={"label": 1, "": 2})
    own = [name for name in table.column_names if name not in FIXED]
    assert own[:2] == ["input.", "input.label"]
    assert own[2:] == sorted([*(f"output.{name}" for name in names[:-1]), "fine"])
    assert len(set(table.column_names)) == len(table.column_names)


async def test_what_is_no_object_has_a_column_of_its_own() -> None:
    table = await table_of(1.5, [1], {"n": 1}, None, given="CCO")
    assert table["output"].to_pylist() == ["1.5", "[1]", None, None]
    assert table["input"].to_pylist() == ["CCO"] * 4
    assert table["n"].to_pylist() == [None, None, 1, None]


async def test_a_table_without_rows_has_the_columns_of_every_table() -> None:
    table = await table_of()
    assert set(table.column_names) == FIXED
    assert table.num_rows == 0
    assert table.schema.field("item").type == pa.int64()
    assert (await csv_of(await results_of()))[0] == table.column_names


async def test_a_parquet_file_has_what_the_table_has(tmp_path: Path) -> None:
    outputs = [{"n": n, "text": "µ" * n, "list": [n]} for n in range(7)]
    results = await results_of(*outputs)
    path = tmp_path / "rows.parquet"
    assert await results.write_parquet(path) == 7
    read = pyarrow.parquet.read_table(path)
    assert read.equals(await results.to_arrow())
    assert [json.loads(text) for text in read["list"].to_pylist()] == [[n] for n in range(7)]


async def test_rows_that_do_not_fit_in_memory_are_read_back_from_a_file(tmp_path: Path) -> None:
    large = "x" * (IN_MEMORY // 4)
    outputs = [{"n": n, "text": large} for n in range(6)]
    results = await results_of(*outputs)
    table = await results.to_arrow()
    assert table["n"].to_pylist() == list(range(6))
    assert set(table["text"].to_pylist()) == {large}
    assert await results.write_parquet(tmp_path / "large.parquet") == 6


async def test_csv_has_the_values_as_they_are_stored() -> None:
    outputs = [
        {"text": '=1+1,"x"\nnext\rand', "n": 1.5, "more": {"a": 1}},
        {"text": "-5 °C", "n": -2},
    ]
    heading, *rows = await csv_of(await results_of(*outputs, given={"-x": "@a"}))
    assert heading[2:6] == ["input.-x", "more", "n", "text"]
    assert rows[0][2:6] == ["@a", '{"a":1}', "1.5", '=1+1,"x"\nnext\rand']
    assert rows[1][2:6] == ["@a", "", "-2", "-5 °C"]
    assert rows[0][heading.index("began")] == TIME.isoformat()


async def test_formulas_are_escaped_if_that_is_asked_for() -> None:
    outputs = [{"text": "=1+1", "n": -2, "=field": "\tx"}, {"text": "fine", "n": 1}]
    heading, *rows = await csv_of(await results_of(*outputs), escape_formulas=True)
    assert heading[2:5] == ["'=field", "n", "text"]
    assert rows[0][2:5] == ["'\tx", "-2", "'=1+1"]
    assert rows[1][2:5] == ["", "1", "fine"]


async def test_a_failed_row_has_its_step_and_error_and_no_output() -> None:
    store = InMemoryEventStore()
    error = StepError("lab.Spilled", "on the floor", "Traceback")
    facts: list[FlowEventKind] = [
        FlowInitialized("a" * 64, 1, name="bad"),
        StepFailed(0, "only", error, "f" * 64),
    ]
    await store.append_kinds(UUID(int=1), facts)
    results = FlowClient(store, InMemoryFlowRepository(store)).results("bad")
    (row,) = (await results.to_arrow()).to_pylist()
    assert (row["state"], row["failed_step"]) == ("failed", "only")
    assert row["error"] == "lab.Spilled: on the floor"


async def test_at_most_so_many_rows_are_read() -> None:
    store = (await results_of(*({"n": n} for n in range(5))))._store
    client = FlowClient(store, InMemoryFlowRepository(store))
    for limit in range(7):
        for size in (1, 2, 10):
            results = client.results("logged", limit=limit, page_size=size)
            assert [row.output["n"] async for row in results] == list(range(min(limit, 5)))
    with pytest.raises(InvalidArgument, match="limit"):
        client.results("logged", limit=-1)


async def test_without_pyarrow_the_error_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    results = await results_of({"n": 1})
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(InvalidArgument, match=r"pip install 'chem-persistence\[table\]'"):
        await results.to_arrow()
    with pytest.raises(InvalidArgument, match=r"pip install 'chem-persistence\[table\]'"):
        await results.write_parquet(tmp_path / "rows.parquet")
    assert not list(tmp_path.iterdir())
