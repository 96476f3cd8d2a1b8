"""Run a page of the documentation as a reader does: in an empty folder, from the top.

A fenced block with a title (`python title="steps.py"`) is a file that the reader writes. In a
`console` block a line that begins with `$ ` is a command, `> ` continues it, and the lines after it
are its output, in which a line `...` stands for any number of lines; a command fails if and only if
its output shows an `error:`. A block after the comment `<!-- not run: why -->` is not run.
"""

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec
from markdown_it import MarkdownIt

__all__ = [
    "DOCUMENTATION",
    "REPOSITORY",
    "Block",
    "Command",
    "blocks",
    "commands",
    "follow",
    "follow_page",
    "is_output",
]

REPOSITORY = Path(__file__).resolve().parents[3]
DOCUMENTATION = REPOSITORY / "documentation"
NOT_RUN = re.compile(r"<!-- not run: (.+?) -->")
TITLE = re.compile(r'title="([^"]+)"')
INSTALLS = re.compile(r"(python3? -m venv|source|\.|pip install) .+")
"""Commands that a reader runs once; the test environment has done so, and they are not run."""


class Block(msgspec.Struct, frozen=True):
    """A fenced block: `title` names a file; `not_run` says why it is not run."""

    language: str
    title: str | None
    text: str
    line: int
    not_run: str | None


class Command(msgspec.Struct, frozen=True):
    """A command, and the lines that it prints."""

    text: str
    output: list[str]


def blocks(page: Path) -> Iterator[Block]:
    """Yield a page's fenced blocks in order, also those inside lists and admonitions."""
    not_run = None
    text = page.read_text(encoding="utf-8")
    for token in MarkdownIt("commonmark").parse(text):
        if token.type == "html_block" and (said := NOT_RUN.search(token.content)):
            not_run = said[1]
        elif token.type == "fence":
            assert token.map is not None
            language, title = token.info.split(" ")[0], TITLE.search(token.info)
            yield Block(language, title and title[1], token.content, token.map[0] + 1, not_run)
            not_run = None


def commands(block: Block) -> Iterator[Command]:
    """Yield the commands of a console block."""
    text, output = "", list[str]()
    for line in block.text.splitlines():
        if line.startswith("$ "):
            if text:
                yield Command(text, output)
            text, output = line[2:], []
        elif line.startswith("> "):
            text += "\n" + line[2:]
        else:
            output.append(line)
    assert text, f"line {block.line}: a console block begins with a command"
    yield Command(text, output)


def follow(page: Path, folder: Path, environment: Mapping[str, str]) -> int:
    """Run the commands of a page, compare their output, and return how many were run."""
    done = 0
    for block in blocks(page):
        if block.not_run is not None:
            continue
        if block.title is not None:
            file = folder / block.title
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(block.text, encoding="utf-8")
            continue
        assert block.language in {"console", "text"}, (
            f"{page.name}, line {block.line}: neither a file nor a command"
        )
        if block.language == "console":
            for command in commands(block):
                if not INSTALLS.fullmatch(command.text):
                    _run(command, folder, environment, f"{page.name}, line {block.line}")
                    done += 1
    return done


async def follow_page(page: str, folder: Path, **environment: str) -> int:
    """Follow a page of the documentation in a thread, while the event loop keeps running."""
    return await asyncio.to_thread(follow, DOCUMENTATION / page, folder, environment)


def _run(command: Command, folder: Path, environment: Mapping[str, str], place: str) -> None:
    programs = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    paths = {"PATH": f"{environment['PATH']}:{programs}" if "PATH" in environment else programs}
    run = subprocess.run(
        ["bash", "-c", command.text],
        cwd=folder,
        env={
            **os.environ,
            "PYTHONPATH": str(REPOSITORY),
            "PYTHONWARNINGS": "error",
            **environment,
            **paths,
        },
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
        check=False,
    )
    said = run.stdout.splitlines()
    assert is_output(said, command.output), f"{place}: $ {command.text}\nprints\n{run.stdout}"
    fails = any(line.lower().startswith("error:") for line in command.output)
    assert (run.returncode != 0) is fails, (
        f"{place}: $ {command.text}\nends with {run.returncode}\n{run.stdout}"
    )


def is_output(said: list[str], shown: list[str]) -> bool:
    """Return whether a command's output is the one that the page shows."""
    pattern = "".join(
        r"(?:.*\n)*?" if line == "..." else re.escape(line) + r" *\n" for line in shown
    )
    return re.fullmatch(pattern, "".join(line + "\n" for line in said)) is not None
