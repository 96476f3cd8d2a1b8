"""The page shows what the commands print after 5,000 molecules; only times and sizes differ."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "documentation" / "how-to" / "find-what-failed.md").read_text(encoding="utf-8")
MEASURED = (
    (r"\d{4}-\d\d-\d\d( \d\d:\d\d(:\d\d)?)?", "DATE"),
    (r"[\d.]+ (ms|s|min)\b", "TIME"),
    (r"[\d.,]+ [KMG]iB", "SIZE"),
    (r"\d+ of \d+ are free", "FREE"),
    (r"[\d,]+ dead rows in \d+ tables", "DEAD"),
    (r"migration \d+", "MIGRATION"),
    (r"all \d+ are as", "OBJECTS"),
    (r"\S+:\d+ +python .*", "HOST"),
    (r"[\d.]+%", "SHARE"),
    (r"PostgreSQL [\d.]+", "SERVER"),
    (r"━[━ ]*", "BAR "),
    (r" +", " "),
)


def shown() -> Iterator[tuple[str, str]]:
    """Yield each command of the page's block that this test runs, and the output shown there."""
    block = rf"<!-- not run: .*{Path(__file__).name}.* -->\n```console\n(.*?)```"
    found = re.search(block, PAGE, re.DOTALL)
    assert found is not None
    for part in re.split(r"^\$ ", found[1], flags=re.MULTILINE)[1:]:
        command, _, output = part.partition("\n")
        yield command, output


COMMANDS = list(shown())


def without_measures(output: str) -> list[str]:
    """Return the lines without measures; rows of hours depend on when the test runs."""
    for measure, name in MEASURED:
        output = re.sub(measure, name, output)
    return [
        line.strip() for line in output.splitlines() if line.strip() and not line.startswith("DATE")
    ]


def run(*arguments: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment.pop("DATABASE_URL", None)
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=1500,
        check=False,
    )
    assert done.returncode == 0, done
    return done.stdout


@pytest.fixture(scope="module")
def screened(tmp_path_factory: pytest.TempPathFactory) -> str:
    data = str(tmp_path_factory.mktemp("screen") / "data")
    run("examples/screen_nci.py", "--limit", "5000", "--data", data)
    run("-m", "chem_persistence", "refresh", "--data", data)
    return data


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("command", "output"), COMMANDS, ids=[command for command, _ in COMMANDS])
def test_the_page_shows_what_a_command_prints(screened: str, command: str, output: str) -> None:
    name, *arguments = command.split()
    assert name == "chem-persistence"
    printed = run("-m", "chem_persistence", *arguments, "--data", screened)
    printed = printed.replace(f" --data {screened}", "")  # a reader uses the default
    assert without_measures(printed) == without_measures(output)
    assert len(without_measures(output)) > 3
