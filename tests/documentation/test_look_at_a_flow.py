"""The documentation's page about flow pages is right."""

import re
import subprocess
import sys
from pathlib import Path

from chem_persistence import PageLimits

PAGE = Path(__file__).parents[2] / "documentation" / "how-to" / "look-at-a-flow.md"


def test_the_program_prints_what_the_page_says(tmp_path: Path) -> None:
    text = PAGE.read_text(encoding="utf-8")
    (program,) = re.findall(r'```python title="look.py"\n(.*?)```', text, re.DOTALL)
    (printed,) = re.findall(r"```console\n\$ python look.py\n(.*?)```", text, re.DOTALL)
    (tmp_path / "look.py").write_text(program, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-W", "error", "look.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr, done.stdout) == (0, "", printed)
    assert (tmp_path / "flow.html").is_file()


def test_the_limits_are_those_that_the_page_says() -> None:
    text, limits = " ".join(PAGE.read_text(encoding="utf-8").split()), PageLimits()
    assert (
        f"{limits.events:,} events (the first and the last thousand), "
        f"{limits.artifacts} artifacts, {limits.molecules} molecules, "
        f"{limits.text:,} characters a payload, {limits.image // 2**10} KiB an image, "
        f"{limits.embedded // 2**20} MiB of all events"
    ) in text


def test_the_pictures_are_there() -> None:
    pictures = re.findall(r"!\[[^]]+\]\(([^)]+)\)", PAGE.read_text(encoding="utf-8"))
    assert len(pictures) == 4
    assert all((PAGE.parent / picture).is_file() for picture in pictures)
