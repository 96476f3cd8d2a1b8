"""The options that commands share."""

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["AsJson", "Data", "DatabaseUrl", "FlowName", "Schema"]

DatabaseUrl = Annotated[
    str | None,
    typer.Option(
        help="A URL as libpq takes it. Without one: --data, else DATABASE_URL, else .env, else --data data/demo."
    ),
]
Data = Annotated[
    Path | None,
    typer.Option(
        metavar="DIRECTORY",
        help="An embedded server's data; those of `make demo` are in data/demo.",
    ),
]
Schema = Annotated[str, typer.Option(help="The schema that holds the tables.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
FlowName = Annotated[
    str,
    typer.Argument(
        metavar="FLOW", help="A flow's id, or a beginning of it that no other flow has."
    ),
]
