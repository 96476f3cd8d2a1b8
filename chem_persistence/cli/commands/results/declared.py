"""The commands `results` and `artifact get`, `show`, `list`, `lineage`: arguments and help.

What they do is in the modules that are imported when a command is called.
"""

from pathlib import Path
from typing import Annotated

import typer

from chem_persistence.cli import options as option
from chem_persistence.cli.exit import run
from chem_persistence.cli.options import AsJson, Data, Schema, Target, Url

__all__ = ["get", "lineage", "list_", "results", "show"]

ResultFlow = Annotated[
    str,
    typer.Argument(
        metavar="FLOW",
        help="The name of flows, or the id of one, or the beginning of only one flow's id.",
    ),
]
ResultStep = Annotated[
    str | None,
    typer.Option(
        metavar="STEP",
        help="The step whose outputs are listed; also one of the flow that a map runs.",
        show_default="the last map, or the last step",
    ),
]
Since = Annotated[
    str | None,
    typer.Option(metavar="TIME", help="Only runs that began then or later (ISO 8601)."),
]
RunLabel = Annotated[
    str | None, typer.Option("--label", metavar="TEXT", help="Only runs with this label.")
]
MostRows = Annotated[
    int | None,
    option.number(
        "N", "Print at most N rows (default: all; of a table 20).", "--limit", "-n", least=1
    ),
]
AsCsv = Annotated[bool, typer.Option("--csv", help="Print CSV, with a line of names.")]
ParquetFile = Annotated[
    Path | None, typer.Option("--parquet", metavar="FILE", help="Write a Parquet file (pyarrow).")
]
EscapeFormulas = Annotated[
    bool,
    typer.Option(
        "--escape-formulas",
        help="In CSV, put ' before texts that a spreadsheet would take for a formula.",
    ),
]
Kind = Annotated[str | None, typer.Option(metavar="KIND", help="Only artifacts of this kind.")]
OfFlow = Annotated[
    str | None,
    typer.Option("--flow", metavar="FLOW", help="Only artifacts stored with this flow's events."),
]
MostArtifacts = Annotated[
    int, option.number("N", "List at most N of them.", "--limit", "-n", least=1)
]
Depth = Annotated[int, option.number("N", "Follow at most N steps in either direction.", least=1)]


def results(
    flow: ResultFlow,
    step: ResultStep = None,
    state: option.StateName = None,
    since: Since = None,
    label: RunLabel = None,
    limit: MostRows = None,
    as_csv: AsCsv = False,
    parquet: ParquetFile = None,
    escape_formulas: EscapeFormulas = False,
    database_url: Url = None,
    data: Data = None,
    schema: Schema = "public",
    as_json: AsJson = False,
) -> None:
    """Print the results of a flow's runs as a table: labels, inputs, fields of the outputs.

    The runs are listed from the newest on. Of a run with a map each item is a row, also while it
    runs, or if it has failed. A table has as many columns as fit on the terminal. With --json each
    row is an object on a line of its own, printed as it is read; --csv and --parquet have a column
    for each field of any row, so all rows are read first. --parquet writes the whole file, or none.
    """
    from chem_persistence.cli.commands.results.print_rows import ResultOptions, print_results

    options = ResultOptions(
        target=Target(database_url, data, schema),
        flow=flow,
        step=step,
        state=state,
        since=since,
        label=label,
        limit=limit,
        as_csv=as_csv,
        parquet=parquet,
        escape_formulas=escape_formulas,
        as_json=as_json,
    )
    run(lambda: print_results(options))


def get(
    hash_: option.HashName,
    output: option.Output = None,
    database_url: Url = None,
    data: Data = None,
    schema: Schema = "public",
    as_json: AsJson = False,
) -> None:
    """Write the bytes of an artifact whose SHA-256 is its hash: its content or canonical JSON.

    With --json its description is printed instead; with both, the file is written too. On a
    terminal a payload is indented, and a content needs -o. The bytes are compared with the hash
    while they are read: -o keeps no file of a corrupt artifact, while standard output has its bytes
    already.

    Exit code 1: the artifact is corrupt.
    """
    from chem_persistence.cli.commands.artifact import get_artifact

    run(lambda: get_artifact(Target(database_url, data, schema), hash_, output, as_json=as_json))


def show(
    hash_: option.HashName,
    limit: MostArtifacts = 20,
    database_url: Url = None,
    data: Data = None,
    schema: Schema = "public",
    as_json: AsJson = False,
) -> None:
    """Show an artifact: its kind, the beginning of its JSON, which steps made and used it."""
    from chem_persistence.cli.commands.results.artifacts import show_artifact

    run(lambda: show_artifact(Target(database_url, data, schema), hash_, limit, as_json=as_json))


def list_(
    kind: Kind = None,
    flow: OfFlow = None,
    limit: MostArtifacts = 20,
    database_url: Url = None,
    data: Data = None,
    schema: Schema = "public",
    as_json: AsJson = False,
) -> None:
    """List artifacts, the one that was stored last first.

    Equal contents are stored once, with the first event that brought them: an output of a flow that
    another one had stored before is listed with that one.
    """
    from chem_persistence.cli.commands.results.artifacts import list_the_artifacts

    target = Target(database_url, data, schema)
    run(lambda: list_the_artifacts(target, kind, flow, limit, as_json=as_json))


def lineage(
    hash_: option.HashName,
    depth: Depth = 100,
    limit: MostArtifacts = 50,
    database_url: Url = None,
    data: Data = None,
    schema: Schema = "public",
    as_json: AsJson = False,
) -> None:
    """List what an artifact derives from, and what derives from it, over all flows.

    Each artifact is listed once, the nearest first, with the first step that relates it.
    """
    from chem_persistence.cli.commands.results.artifacts import print_lineage

    target = Target(database_url, data, schema)
    run(lambda: print_lineage(target, hash_, depth, limit, as_json=as_json))
