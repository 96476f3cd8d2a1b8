"""The options that commands share."""

from pathlib import Path
from typing import Annotated

import typer

from chem_persistence.cli.place import DEFAULT_DATA

__all__ = ["AsJson", "Data", "DatabaseUrl", "FlowName", "Schema"]

DatabaseUrl = Annotated[
    str | None,
    typer.Option(
        envvar="DATABASE_URL",
        show_envvar=False,
        help="A URL as libpq takes it. Without one: DATABASE_URL, then .env, then the embedded server.",
        show_default=False,
    ),
]
Data = Annotated[
    Path,
    typer.Option("--data", help=f"The embedded server's data; `make demo` keeps them in {DEFAULT_DATA}."),
]
Schema = Annotated[str, typer.Option(help="The schema that holds the tables.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
FlowName = Annotated[
    str, typer.Argument(metavar="FLOW", help="A flow's id, or a beginning of it that no other flow has.")
]
