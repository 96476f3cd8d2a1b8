"""The command `results`, in a process of its own."""

import asyncio
import csv
import io
import json
import os
import subprocess
from pathlib import Path

import pyarrow.parquet
import pytest

from chem_persistence.store.leasing.children import child_id
from tests.acceptance.command_line.test_command_line_surroundings import ESCAPE, on_a_terminal
from tests.acceptance.results.conftest import SCREEN, screened
from tests.support.commands import COMMAND, command, command_environment


async def output(url: str, *arguments: object, **variables: str) -> str:
    done = await command("results", *arguments, "--database-url", url, variables=variables)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


async def lines_of(url: str, *arguments: object, **variables: str) -> list[list[str]]:
    return [line.split() for line in (await output(url, *arguments, **variables)).splitlines()]


async def test_a_table_has_the_items_of_a_map_as_rows(url: str) -> None:
    heading, first, *others = await lines_of(url, "screen", "--step", "judge")
    fields = ["item", "input.smiles", "broken", "energy_kcal_mol", "smiles", "state"]
    assert heading == [*fields, "failed_step", "error", "began", "flow_id", "run"]
    assert first[:6] == ["0", "C", '["=logP"]', "0.5", "C", "completed"]
    assert first[-2:] == [str(child_id(SCREEN, 1, 0)), str(SCREEN)]
    assert others[1][:4] == ["2", "CCC", "failed", "judge"]
    assert len(others) == 4


async def test_a_run_is_named_by_its_id_or_the_beginning_of_it(url: str) -> None:
    by_name = await output(url, "screen")
    assert await output(url, SCREEN) == by_name
    assert await output(url, "01a221e6") == by_name
    heading, own = await lines_of(url, "01a2", "--step", "count")
    assert (heading[:2], own[:2]) == (["input.n", "n"], ["5", "4"])


async def test_a_narrow_table_has_the_columns_that_fit_and_names_the_others(url: str) -> None:
    narrow = await lines_of(url, "screen", COLUMNS="50")
    assert narrow[0] == ["item", "broken", "energy_kcal_mol", "smiles"]
    assert narrow[-1][:3] == ["7", "columns", "more:"]
    assert max(map(len, (await output(url, "screen", COLUMNS="50")).splitlines()[:6])) <= 50
    more = await lines_of(url, "screen", "--limit", 2, COLUMNS="80")
    assert more[-1] == ["there", "are", "more:", "--limit", "20"]
    assert len(more) == 5


async def test_a_terminal_gets_no_control_characters(url: str) -> None:
    for form in ([], ["--csv"], ["--json"]):
        _, written = await asyncio.to_thread(
            on_a_terminal, "results", "screen", *form, "--database-url", url, columns=300
        )
        told = ESCAPE.sub("", written)
        assert "\x07" not in told
        assert "\u202e" not in told
        assert "red" in told


async def test_rows_are_chosen_by_state_label_and_time(url: str) -> None:
    failed = await lines_of(url, "screen", "--state", "failed")
    assert [line[0] for line in failed] == ["item", "2"]
    for options in (["--label", "none"], ["--since", "2999-01-01T00:00Z"]):
        assert await output(url, "screen", *options) == "no results\n"
    assert await output(url, "screen", "--state", "running") == "no results\n"


async def test_invalid_results_have_a_column_if_there_are_any(database_url: str) -> None:
    url = await screened(database_url)
    assert "invalidated" not in await output(url, "screen")
    child = child_id(SCREEN, 1, 1)
    reason = ["--reason", "wrong", "--actor", "Ada", "--database-url", url]
    assert (await command("invalidate", child, "judge", *reason)).returncode == 0
    heading, *lines = await lines_of(url, "screen", "--limit", 2)
    place = heading.index("invalidated")
    assert [line[place] for line in lines[:2]] == ["false", "true"]


async def test_json_is_an_object_for_each_row(url: str) -> None:
    rows = [json.loads(line) for line in (await output(url, "screen", "--json")).splitlines()]
    assert [row["item"] for row in rows] == [0, 1, 2, 3, 4]
    assert rows[1]["input"] == {"smiles": "CC"}
    assert rows[1]["output"] == {"broken": ["=logP"], "energy_kcal_mol": 1, "smiles": "CC"}
    assert rows[2]["output"] is None
    assert (rows[2]["state"], rows[2]["failed_step"]) == ("failed", "judge")
    assert rows[2]["failure"]["error_class"] == "builtins.ValueError"


async def test_csv_has_a_line_of_names_and_one_for_each_row(url: str) -> None:
    rows = list(csv.DictReader(io.StringIO(await output(url, "screen", "--csv"))))
    assert [row["item"] for row in rows] == ["0", "1", "2", "3", "4"]
    assert [row["energy_kcal_mol"] for row in rows] == ["0.5", "1", "", "2", "2.5"]
    limited = await output(url, "screen", "--csv", "--escape-formulas", "--limit", 1)
    assert len(limited.splitlines()) == 2


async def test_a_parquet_file_is_written_whole(url: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    done = await command("results", "screen", "--parquet", path, "--database-url", url)
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == f"5 rows in {path}\n"
    table = pyarrow.parquet.read_table(path)
    assert table["energy_kcal_mol"].to_pylist() == [0.5, 1.0, None, 2.0, 2.5]
    assert [each.name for each in tmp_path.iterdir()] == ["rows.parquet"]
    missing = tmp_path / "none" / "rows.parquet"
    done = await command("results", "screen", "--parquet", missing, "--database-url", url)
    assert done.returncode == 2
    assert done.stderr == f"error: {missing}: No such file or directory\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing"], "FLOW: no flow has the name 'nothing', nor an id that begins so"),
        (["screen", "--step", "x"], "step: flow 01a221e6-0000-7000-8000-000000000001 has no step"),
        (["screen", "--csv", "--json"], "cannot be combined: give one of them"),
        (["screen", "--escape-formulas"], "--escape-formulas: is an option of --csv"),
        (["screen", "--since", "today"], "--since: is not a time of ISO 8601: 'today'"),
        (["dddddddd-0000-4000-8000-000000000001"], "there is no flow"),
        (["screen", "--limit", "0"], "0 is not a whole number of at least 1"),
    ],
)
async def test_a_wrong_question_is_one_line(url: str, arguments: list[str], message: str) -> None:
    done = await command("results", *arguments, "--database-url", url)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("form", [["--csv"], pytest.param(["--json"], marks=pytest.mark.slow)])
async def test_a_closed_pipe_ends_it_silently(url: str, form: list[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    process = await asyncio.create_subprocess_exec(
        *COMMAND,
        *["results", "screen", *form],
        env=command_environment(DATABASE_URL=url),
        stdout=writing,
        stderr=subprocess.PIPE,
    )
    os.close(writing)
    _, error = await process.communicate()
    assert (process.returncode, error) == (141, b"")


async def test_without_pyarrow_the_error_says_how_to_install_it(url: str, tmp_path: Path) -> None:
    (tmp_path / "pyarrow.py").write_text("raise ImportError('hidden')\n", encoding="utf-8")
    path = os.pathsep.join([str(tmp_path), *command_environment()["PYTHONPATH"].split(os.pathsep)])
    done = await command(
        *["results", "screen", "--parquet", tmp_path / "rows.parquet", "--database-url", url],
        variables={"PYTHONPATH": path},
    )
    assert done.returncode == 2
    assert done.stderr == "error: Arrow: needs pyarrow: pip install 'chem-persistence[table]'\n"
    assert not (tmp_path / "rows.parquet").exists()
