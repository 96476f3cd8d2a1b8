"""Run the command line as a user does: in a process of its own.

That process begins as a fork of one that has imported what commands import, unless the start is
part of what a test says: see fork_server.py.
"""

import asyncio
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import typer
import typer.main
from typer.testing import CliRunner

from tests.support.forks import ForkServer

__all__ = ["COMMAND", "FORKED", "command", "command_environment", "command_names", "help_of"]

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-W", "error", "-m", "chem_persistence"]


def command_environment(**variables: str) -> dict[str, str]:
    """Return an environment that names no database and describes no terminal."""
    left_out = {"DATABASE_URL", "COLUMNS", "NO_COLOR", "FORCE_COLOR"}
    kept = {key: value for key, value in os.environ.items() if key not in left_out}
    return kept | {"PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])} | variables


REHEARSAL = ("flows", "--database-url", "postgresql://nobody@localhost:1/none")
FORKED = ForkServer(
    "chem_persistence",
    *REHEARSAL,
    variables=command_environment(),
    prepared="tests.support.built_commands",
)


async def command(
    *arguments: object,
    cwd: Path | None = None,
    variables: Mapping[str, str] | None = None,
    stdin: str | None = None,
) -> "subprocess.CompletedProcess[str]":
    """Run a command until it ends; it is started if a variable is one that Python reads then."""
    given = list(map(str, arguments))
    environment = command_environment(**(variables or {}))
    if not any(name.startswith("PYTHON") for name in variables or {}):
        return await asyncio.to_thread(
            FORKED.run, given, variables=environment, folder=cwd, stdin=stdin
        )
    return await asyncio.to_thread(
        subprocess.run,
        [*COMMAND, *given],
        cwd=cwd,
        env=environment,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=240,  # ends a command that hangs; a busy machine takes a minute to start one
        check=False,
    )


def command_names(app: typer.Typer) -> list[str]:
    """Return the names of all commands; those of groups begin with the name of the group."""
    group = typer.main.get_command(app)
    commands: dict[str, Any] = getattr(group, "commands")  # noqa: B009 - of a group
    names: list[str] = []
    for name, found in commands.items():
        names += [f"{name} {inner}" for inner in getattr(found, "commands", {})] or [name]
    return names


def help_of(app: typer.Typer, name: str) -> str:
    """Return a command's help, as printed on a wide terminal without colours."""
    done = CliRunner().invoke(
        app,
        [*name.split(), "--help"],
        prog_name="chem-persistence",
        env={"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"},
    )
    assert done.exit_code == 0
    return done.output.strip()
