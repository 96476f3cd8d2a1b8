"""Each example prints what its last comment says."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
PAGES = EXAMPLES.parent / "documentation/reference/examples"
SCIENCE = {"equation_of_state.py"}  # what needs the extra `science`
QUICK = {"f5_demo.py"}  # the others are run by the long runs
ARGUMENTS = {
    "batch_jobs.py": [],
    "branch_and_diff.py": [],
    "consumer_mirror.py": [],
    "consumer_projection.py": [],
    "equation_of_state.py": [],
    "f5_demo.py": [],
    "f5_lowlevel.py": [],
    "human_gate.py": [],
    "orchestrator.py": [],
    "screen_nci.py": ["--limit", "12", "--data", "data"],
    "workers.py": [],
}


def promised_output(program: Path) -> list[str]:
    """Return the trailing comment block as patterns; three dots stand for any text."""
    _, _, block = program.read_text(encoding="utf-8").partition("\n# Output:\n")
    lines = [line.removeprefix("#").removeprefix(" ") for line in block.splitlines()]
    return [r" +.*".join(re.escape(part) for part in re.split(r" +\.\.\.", line)) for line in lines]


def test_every_program_among_the_examples_is_run_here() -> None:
    programs = {
        path.relative_to(EXAMPLES).as_posix()
        for path in EXAMPLES.rglob("*.py")
        if "__main__" in path.read_text(encoding="utf-8")
    }
    assert programs == set(ARGUMENTS)


def test_every_program_is_a_page_of_the_site() -> None:
    for name in ARGUMENTS:
        page = (PAGES / name).with_suffix(".md").read_text(encoding="utf-8")
        assert f'--8<-- "examples/{name}"' in page
    assert len(list(PAGES.iterdir())) == len(ARGUMENTS)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(
            name,
            marks=[
                *([pytest.mark.science] if name in SCIENCE else ()),
                *([] if name in QUICK else [pytest.mark.slow]),
            ],
        )
        for name in ARGUMENTS
    ],
)
def test_example_prints_what_its_last_comment_says(name: str, tmp_path: Path) -> None:
    program = EXAMPLES / name
    environment = {key: value for key, value in os.environ.items() if key != "DATABASE_URL"}
    done = subprocess.run(
        [sys.executable, "-W", "error", str(program), *ARGUMENTS[name]],
        cwd=tmp_path,
        env=environment | {"COLUMNS": "80"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    promised, printed = promised_output(program), done.stdout.splitlines()
    assert len(promised) > 0
    assert len(printed) == len(promised), done.stdout
    for pattern, line in zip(promised, printed, strict=True):
        assert re.fullmatch(pattern, line.rstrip())
