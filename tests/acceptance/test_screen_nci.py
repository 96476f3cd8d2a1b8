"""The screen of the NCI molecules: it resumes and reports, and no crash changes its results."""

import asyncio
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from rdkit import RDConfig

from chem_persistence import PoolProvider, build_pool, embedded_postgres
from tests.support.screening.results import IN_MEMORY, results

PROGRAM = Path(__file__).parents[2] / "examples" / "screen_nci.py"
ENVIRONMENT = {key: value for key, value in os.environ.items() if key != "DATABASE_URL"} | {
    "COLUMNS": "200"
}
PATIENCE = 120

BAD_MOLECULES = """\
CCO\tethanol
CC(\tunclosed
C(C)(C)(C)(C)C\tfive bonds
C1#CCC1C\tstrained
CB(C)C\tboron
not-smiles
"""

# Three small molecules, then one that takes seconds to embed, so that it can be interrupted
EVENTS_OF_SCREEN = len("ISFSW")
EVENTS_OF_SMALL_ONES = 3 * 12
EVENTS_UP_TO_EMBEDDING = EVENTS_OF_SCREEN + EVENTS_OF_SMALL_ONES + len("ISFSFSFS")
EVENTS_UNDISTURBED = 5 * 12


def screen(cwd: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, PROGRAM, *arguments],
        cwd=cwd,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def reported(done: subprocess.CompletedProcess[str]) -> dict[str, str]:
    """Return the rows of the report: a label, and the text to its right."""
    assert (done.returncode, done.stderr) == (0, ""), done
    tables, _, _ = done.stdout.partition("what the words above mean:")
    rows = (re.split(r"  +", line.strip(), maxsplit=1) for line in tables.splitlines())
    report = {row[0]: row[1] for row in rows if len(row) == 2}
    (report["fingerprint"],) = re.findall(r"^screen fingerprint (\w+)$", tables, re.MULTILINE)
    return report


def counts(report: dict[str, str], *labels: str) -> list[int]:
    return [int(report[label]) for label in labels]


@pytest.mark.slow
def test_second_run_computes_nothing_and_another_parameter_only_its_step(
    tmp_path: Path,
) -> None:
    first = reported(screen(tmp_path, "--limit", "12", "--data", "log"))
    done = screen(tmp_path, "--limit", "12", "--data", "log")
    second = reported(done)
    assert "nothing was computed: all 4 steps of the screen were taken over from " in done.stdout
    assert counts(first, "finished now", "finished before") == [12, 0]
    assert counts(second, "finished now", "finished before", "events appended now") == [0, 12, 0]
    assert second["events"] == first["events"]
    assert second["fingerprint"] == first["fingerprint"]
    third = reported(screen(tmp_path, "--limit", "12", "--data", "log", "--broken-rules", "0"))
    assert counts(third, "steps computed now", "results taken over") == [12, 4 * 12]
    assert [int(each["drug-like"]) for each in (first, third)] == [12, 10]


@pytest.mark.slow
def test_bad_molecules_are_results_and_run_again_only_on_request(tmp_path: Path) -> None:
    (tmp_path / "bad.smi").write_text(BAD_MOLECULES, encoding="utf-8")
    arguments = ("--smiles", "bad.smi", "--data", "log")
    first = reported(screen(tmp_path, *arguments))
    second = reported(screen(tmp_path, *arguments))
    third = reported(screen(tmp_path, *arguments, "--retry-failed"))
    assert counts(first, "finished now", "failed now", "failed before") == [1, 5, 0]
    assert first["acquire: SmilesUnreadable"].split(maxsplit=1) == [
        "2",
        "line 6: 'not-smiles' is not SMILES",
    ]
    assert first["acquire: StructureImpossible"].startswith(
        "1  five bonds: Explicit valence for atom # 0 C"
    )
    assert first["embed: EmbeddingFailed"].startswith("1  strained: no conformer in")
    assert first["embed: NoForceFieldParameters"].startswith("1  boron: MMFF94 has no parameters")
    assert counts(second, "finished before", "failed before", "events appended now") == [1, 5, 0]
    assert counts(third, "failed now", "events appended now") == [5, 5 * len("RSX")]
    assert first["fingerprint"] == second["fingerprint"] == third["fingerprint"]


@pytest.fixture(scope="module")
def molecules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    lines = Path(RDConfig.RDDataDir, "NCI", "first_5K.smi").read_text(encoding="utf-8").splitlines()
    by_name = {line.split("\t")[1]: line for line in lines}
    path = tmp_path_factory.mktemp("molecules") / "molecules.smi"
    path.write_text(
        "\n".join(by_name[name] for name in ("1", "4", "7", "3053", "11")), encoding="utf-8"
    )
    return path


@pytest.fixture(scope="module")
def undisturbed(molecules: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return reported(screen(tmp_path_factory.mktemp("undisturbed"), "--smiles", str(molecules)))


@asynccontextmanager
async def embedding(cwd: Path, molecules: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run the program until the log shows that it embeds the fourth molecule."""
    async with embedded_postgres(cwd / "log") as url, await build_pool(url, max_size=1) as pool:
        process = await asyncio.create_subprocess_exec(
            *(
                sys.executable,
                PROGRAM,
                "--smiles",
                molecules,
                "--data",
                "log",
                "--concurrency",
                "1",
            ),
            cwd=cwd,
            env=ENVIRONMENT,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        while await pool.fetchval("SELECT count(*) FROM event_log") < EVENTS_UP_TO_EMBEDDING:
            if process.returncode is not None:
                pytest.fail(f"the program ended early: {await process.communicate()}")
        yield process


async def end_leases(data: Path) -> None:
    """Make the leases of a dead program end at once, instead of after 30 seconds."""
    async with embedded_postgres(data) as url, await build_pool(url, max_size=1) as pool:
        await pool.execute("UPDATE flow_runs SET due_at = now() WHERE lease IS NOT NULL")


@pytest.mark.slow
@pytest.mark.parametrize(
    "number",
    [signal.SIGKILL, signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)],
)  # SIGINT goes the way of SIGTERM
async def test_stopped_run_goes_on_to_the_fingerprint_of_an_undisturbed_one(
    number: signal.Signals, molecules: Path, undisturbed: dict[str, str], tmp_path: Path
) -> None:
    async with embedding(tmp_path, molecules) as process:
        process.send_signal(number)
        stdout, stderr = await process.communicate()
    if number is signal.SIGKILL:
        assert process.returncode == -number
        await end_leases(tmp_path / "log")
    else:
        assert process.returncode == 128 + number
        assert (
            stdout.decode()
            .splitlines()[-1]
            .startswith(f"stopped by {number.name}; what was done is stored")
        )
        assert stderr == b""
    again = reported(screen(tmp_path, "--smiles", str(molecules), "--data", "log"))
    assert counts(again, "finished before", "finished now") == [3, 2]
    assert counts(undisturbed, "events", "step runs repeated") == [EVENTS_UNDISTURBED, 0]
    signals = 0 if number is signal.SIGKILL else 1  # a program that stops in order says so
    assert counts(again, "events", "step runs repeated") == [
        EVENTS_UNDISTURBED + signals + len("S"),
        1,
    ]  # embedding began a second time
    assert again["fingerprint"] == undisturbed["fingerprint"]


@pytest.mark.slow
async def test_lost_database_is_one_line_and_loses_nothing(
    molecules: Path, undisturbed: dict[str, str], tmp_path: Path
) -> None:
    async with embedding(tmp_path, molecules) as process:
        postmaster = int((tmp_path / "log" / "cluster" / "postmaster.pid").read_text().split()[0])
        os.kill(postmaster, signal.SIGQUIT)
        _, stderr = await process.communicate()
    assert process.returncode == 1
    assert re.fullmatch(r"error: the database is unavailable: [^\n]*\n", stderr.decode())
    await end_leases(tmp_path / "log")
    again = reported(screen(tmp_path, "--smiles", str(molecules), "--data", "log"))
    assert again["fingerprint"] == undisturbed["fingerprint"]


def test_unreachable_database_is_one_line(tmp_path: Path) -> None:
    done = screen(tmp_path, "--database-url", f"postgresql://nobody@/nothing?host={tmp_path}")
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(r"error: the database is unavailable: [^\n]*\n", done.stderr)


async def ranked(data: Path) -> str:
    """Return the results of the screen that a log has."""
    async with embedded_postgres(data) as url, await build_pool(url) as pool:
        return await results(PoolProvider(pool))


@pytest.mark.slow
def test_workers_that_are_killed_rank_as_an_undisturbed_run_in_memory(tmp_path: Path) -> None:
    arguments = ("--limit", "60", "--data", "log", "--workers", "3")
    killed = reported(screen(tmp_path, *arguments, "--kill-every", "2"))
    again = reported(screen(tmp_path, *arguments))
    in_memory = subprocess.run(
        [sys.executable, "-c", IN_MEMORY, "60"],
        env=ENVIRONMENT | {"PYTHONPATH": str(PROGRAM.parent)},
        capture_output=True,
        timeout=PATIENCE,
        check=True,
    )
    assert counts(killed, "finished now", "failed now") == [60, 0]
    assert int(killed["workers killed"]) > 0
    assert counts(again, "finished before", "events appended now") == [60, 0]
    assert again["step runs repeated"] == killed["step runs repeated"]
    assert again["fingerprint"] == killed["fingerprint"]
    assert len(in_memory.stdout.splitlines()) == len(("fingerprint", "header")) + 60
    assert asyncio.run(ranked(tmp_path / "log")) == in_memory.stdout.decode()
