"""Run the command line as a user does: in a process of its own."""

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

__all__ = ["COMMAND", "command", "command_environment", "command_names", "help_of"]

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-W", "error", "-m", "chem_persistence"]


def command_environment(**variables: str) -> dict[str, str]:
    """Return an environment that names no database and describes no terminal."""
    left_out = {"DATABASE_URL", "COLUMNS", "NO_COLOR", "FORCE_COLOR"}
    kept = {key: value for key, value in os.environ.items() if key not in left_out}
    return kept | {"PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])} | variables


async def command(
    *arguments: object,
    cwd: Path | None = None,
    variables: Mapping[str, str] | None = None,
    stdin: str | None = None,
) -> "subprocess.CompletedProcess[str]":
    """Run a command until it ends."""
    return await asyncio.to_thread(
        subprocess.run,
        [*COMMAND, *map(str, arguments)],
        cwd=cwd,
        env=command_environment(**(variables or {})),
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
