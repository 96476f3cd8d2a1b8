"""The program, the paths and the figures of the README are right."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def fenced(language: str, after: str) -> str:
    """Return the first fenced block of the language after a text."""
    found = re.search(rf"```{language}\n(.*?)```", README[README.index(after) :], re.DOTALL)
    assert found is not None
    return found[1]


def test_the_program_in_the_readme_prints_what_the_readme_says(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(fenced("python", "## Install, and a first program"), encoding="utf-8")
    run = subprocess.run(
        [sys.executable, "-W", "error", program],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert run.stderr == ""
    assert run.stdout == fenced("text", "<!-- readme program output -->")


def test_every_file_that_the_readme_names_is_there() -> None:
    named = set(re.findall(r"\]\((?!http)([^)#]+)\)", README)) | set(
        re.findall(r"`((?:tests|examples)/[\w/.]+)`", README)
    )
    assert named
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


def test_every_make_target_that_the_readme_names_is_there() -> None:
    targets = set(
        re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    )
    named = set(re.findall(r"`make ([a-z-]+)`", README)) | set(
        re.findall(r"\$ make ([a-z-]+)", README)
    )
    assert named <= targets


def test_the_readme_is_short_and_begins_with_the_program() -> None:
    lines = README.splitlines()
    assert len(lines) <= 170
    assert lines.index("<!-- readme program output -->") < 70


FIGURES = ROOT / "documentation" / "reference" / "benchmarks" / "README.md"


def test_the_readme_compares_with_the_figures_of_the_last_run() -> None:
    page = FIGURES.read_text(encoding="utf-8")
    calls = dict(
        re.findall(
            r"^(\w+)(?: recorder| saver)?, 32 flows, each calls +at least 5 x +([\d.]+) \(",
            page,
            re.MULTILINE,
        )
    )
    batched = dict(
        re.findall(
            r"^append_many of 32, (\w+)(?: recorder)? batched by one caller"
            r" +at least 1.1 x +([\d.]+) \(",
            page,
            re.MULTILINE,
        )
    )
    shown = re.findall(
        r"^\| \[(\w+)\]\(\S+\) \| [^|]+ \| ([\d.]+) \| ([\d.]+|-) \|$", README, re.MULTILINE
    )
    assert len(shown) == len(calls) == 5
    assert {name: alone for name, alone, _ in shown} == calls
    assert {name: many for name, _, many in shown if many != "-"} == batched


def test_the_goals_of_the_benchmark_are_those_of_its_figures() -> None:
    page = FIGURES.read_text(encoding="utf-8")
    text = (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8")
    found = re.search(r"<!-- goals -->\n```text\n(.*?)```", text, re.DOTALL)
    assert found is not None
    assert "met" in found[1]
    assert found[1] in page
    plots = {plot.name for plot in FIGURES.parent.glob("*.svg")}
    assert set(re.findall(r"(\w+\.svg)", page)) == plots
