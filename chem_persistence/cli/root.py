"""The root of the command line: the program's own options, and how commands are registered."""

from collections.abc import Callable
from enum import StrEnum
from typing import Annotated, TypeVar

import typer

from chem_persistence import __version__
from chem_persistence.cli.exit import ExitCode
from chem_persistence.cli.terminal.help import HelpfulCommand, HelpfulGroup

__all__ = ["Panel", "app", "artifact", "command"]


class Panel(StrEnum):
    """The groups of commands in the help, in its order."""

    BEGIN = "Begin"
    LOOK = "Look"
    CHECK = "Check"
    OPERATE = "Operate"
    WORKERS = "Workers"


Command = TypeVar("Command", bound=Callable[..., None])

app = typer.Typer(
    cls=HelpfulGroup,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="The durable, replayable, auditable memory of scientific workflows.",
)
artifact = typer.Typer(cls=HelpfulGroup, help="Read what steps produced.")


def command(panel: Panel) -> Callable[[Command], Command]:
    """Register a command, which the help lists in a panel."""
    return app.command(cls=HelpfulCommand, rich_help_panel=panel.value)


def _print_version(wanted: bool) -> None:  # noqa: FBT001 - typer passes it by position
    if wanted:
        typer.echo(f"chem-persistence {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _options(
    context: typer.Context,
    _version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    _require_command(context)


@artifact.callback(invoke_without_command=True)
def _artifact(context: typer.Context) -> None:
    _require_command(context)


def _require_command(context: typer.Context) -> None:
    """Print the help and exit if the arguments name no command."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit(ExitCode.WRONG_USE)
