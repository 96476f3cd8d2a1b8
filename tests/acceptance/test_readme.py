"""What the README shows is what happens."""

import re
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from textwrap import indent
from typing import Any
from uuid import uuid4

from chem_persistence import InMemoryEventStore, StepFinished

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def fenced(language: str, after: str) -> str:
    """Give the first fenced block of the language after a text."""
    found = re.search(rf"```{language}\n(.*?)```", README[README.index(after) :], re.DOTALL)
    assert found is not None
    return found[1]


def test_the_program_in_the_readme_prints_what_the_readme_says(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(fenced("python", "## Use it from asyncio"), encoding="utf-8")
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


async def test_the_streaming_in_the_readme_streams(tmp_path: Path) -> None:
    async def frames() -> AsyncIterator[bytes]:
        for number in range(3):
            yield bytes([number]) * 2**20

    names: dict[str, Any] = {
        "store": InMemoryEventStore(),
        "frames": frames(),
        "StepFinished": StepFinished,
    }
    names |= {"flow_id": uuid4(), "fingerprint": "f" * 64}
    snippet = indent(fenced("python", "## Large artifacts"), "    ")
    with (tmp_path / "copy").open("wb") as names["file"]:
        exec(f"async def run():\n{snippet}", names)
        await names["run"]()
    assert (tmp_path / "copy").stat().st_size == 3 * 2**20


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


def test_the_figures_of_the_benchmark_are_those_of_its_page() -> None:
    page = (ROOT / "documentation" / "reference" / "benchmarks" / "README.md").read_text(
        encoding="utf-8"
    )
    shown = fenced("text", "<!-- readme benchmark -->")
    assert "met" in shown
    assert shown in page
    assert set(re.findall(r"(\w+\.svg)", page)) <= set(re.findall(r"(\w+\.svg)", README))
