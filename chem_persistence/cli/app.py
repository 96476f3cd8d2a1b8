"""The command line: each command is in the file of its name."""

import sys
from collections.abc import Callable
from importlib.metadata import version
from typing import Annotated

import typer

from chem_persistence.cli.commands.artifact import artifact
from chem_persistence.cli.commands.demo import demo
from chem_persistence.cli.commands.diff import diff
from chem_persistence.cli.commands.doctor import doctor
from chem_persistence.cli.commands.flows import flows
from chem_persistence.cli.commands.migrate import migrate
from chem_persistence.cli.commands.rebuild import rebuild
from chem_persistence.cli.commands.replay import replay
from chem_persistence.cli.commands.roles import roles
from chem_persistence.cli.commands.show import show
from chem_persistence.cli.commands.stats import refresh, stats
from chem_persistence.cli.commands.status import status
from chem_persistence.cli.commands.tail import tail
from chem_persistence.cli.commands.verify import verify
from chem_persistence.cli.exit import BROKEN_PIPE, ExitCode, close_output, prepare_output, say_error
from chem_persistence.cli.help_text import paragraphs

__all__ = ["app", "main"]

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="The durable, replayable, auditable memory of scientific workflows.",
)

BEGIN, LOOK, CHECK, OPERATE = "Begin", "Look", "Check", "Operate"

_COMMANDS: dict[str, list[Callable[..., None]]] = {
    BEGIN: [demo],
    LOOK: [flows, show, tail, replay, diff, stats],
    CHECK: [doctor, status, verify],
    OPERATE: [migrate, refresh, rebuild, roles],
}
for _panel, _commands in _COMMANDS.items():
    for _command in _commands:
        app.command(rich_help_panel=_panel, help=paragraphs(_command))(_command)
app.add_typer(artifact, name="artifact", rich_help_panel=LOOK)

_VALIDATOR_SAYS = "Value error, "
"""With which typer's validator begins what it has from a type's own check."""

# typer brings a click of its own in some versions, and click in others: this is the UsageError of either
_WrongUse: type[Exception] = typer.BadParameter.__mro__[1]


def _print_version(wanted: bool) -> None:  # noqa: FBT001 - typer calls it so
    if wanted:
        typer.echo(f"chem-persistence {version('chem-persistence')}")
        raise typer.Exit


@app.callback()
def _options(
    _version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """Take the options that stand before a command."""


def main() -> int:
    """Run the command line and give its exit code."""
    prepare_output()
    try:
        code = app(prog_name="chem-persistence", standalone_mode=False) or ExitCode.WELL
        sys.stdout.flush()
    except BrokenPipeError:
        close_output()
        return BROKEN_PIPE
    except SystemExit as end:
        if not isinstance(end.__context__, BrokenPipeError):
            raise
        close_output()  # typer has swallowed it
        return BROKEN_PIPE
    except OSError as error:  # what typer itself prints, such as help, cannot be written
        say_error(error)
        close_output()
        return ExitCode.WRONG_USE
    except _WrongUse as error:
        return _say_wrong_use(error)
    return code


def _say_wrong_use(error: Exception) -> int:
    """Say what a usage error says; without a command, its help has been printed already."""
    if isinstance(error, typer.BadParameter):
        error.message = error.message.removeprefix(_VALIDATOR_SAYS)
    message = error.format_message() if hasattr(error, "format_message") else str(error)
    if message:
        context = getattr(error, "ctx", None)
        path = "chem-persistence" if context is None else context.command_path
        say_error(f"{message} (try: {path} --help)")
    return ExitCode.WRONG_USE
