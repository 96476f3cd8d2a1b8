"""Builds the commands of the command line once, before forks run them: see fork_server.py.

Every start of the program builds all of them from the signatures of their functions.
"""

import typer
import typer.main

from chem_persistence.cli.app import app

build = typer.main.get_command
BUILT = build(app)


def get_command(wanted: typer.Typer) -> object:
    """Return what was built."""
    return BUILT if wanted is app else build(wanted)


typer.main.get_command = get_command  # type: ignore[assignment]
