"""The commands that take flows away, in and out of the log: their names, arguments and help.

What a command does is in `commands/bundles/` and `commands/archive/`, which are imported when it is
called.
"""

from pathlib import Path
from typing import Annotated

import typer

from chem_persistence.cli import options as option
from chem_persistence.cli.commands.archive.options import ArchiveOptions
from chem_persistence.cli.exit import run
from chem_persistence.cli.options import AsJson, Data, Schema, Target, Url

__all__ = ["archive", "export", "import_", "seal"]


def export(
    flows: option.FlowNames,
    file: option.BundleOut,
    tree: option.Tree = False,
    anchors: option.BundledAnchors = None,
    database_url: Url = None,
    data: Data = None,
    schema: Schema = "public",
    as_json: AsJson = False,
) -> None:
    """Write flows into a file that can be verified, and imported elsewhere: a bundle.

    It is a ZIP archive and a Provenance Run Crate, with the events, the artifacts, the definitions
    and the pages of the flows. The same flows make the same bytes.

    Exit code 1: an event or an artifact was changed, or an artifact is missing.
    """
    from chem_persistence.cli.commands.bundles.transfer import ExportOptions, export_to

    target = Target(database_url, data, schema)
    options = ExportOptions(tree=tree, anchors=anchors, as_json=as_json)
    run(lambda: export_to(target, flows, file, options))


def import_(
    file: option.BundleIn,
    database_url: Url = None,
    data: Data = None,
    schema: Schema = "public",
    as_json: AsJson = False,
) -> None:
    """Store the flows of a bundle, all or nothing; flows that are there already stay as they are.

    No worker runs an imported flow by itself: it may still run where it comes from.

    Exit code 1: the file is not a bundle or was changed, or a flow has other events here.
    """
    from chem_persistence.cli.commands.bundles.transfer import import_from

    run(lambda: import_from(Target(database_url, data, schema), file, as_json=as_json))


def seal(
    flows: option.FlowNames,
    actor: option.Actor = None,
    database_url: Url = None,
    data: Data = None,
    schema: Schema = "public",
    as_json: AsJson = False,
) -> None:
    """Seal flows that are completed or cancelled, so that no program can append to them.

    A flow that is sealed already stays as it is. A seal cannot be taken back.
    """
    from chem_persistence.cli.commands.archive.seal import seal_flows

    run(lambda: seal_flows(Target(database_url, data, schema), flows, actor, as_json=as_json))


def archive(
    directory: Annotated[
        Path,
        typer.Option(
            "--to",
            metavar="DIR",
            help="The folder for the bundles, each named by its SHA-256.",
            exists=True,
            file_okay=False,
        ),
    ],
    actor: Annotated[str, typer.Option(metavar="NAME", help="Who archives the flows.")],
    flows: Annotated[
        list[str] | None,
        typer.Argument(metavar="FLOW...", help="Flows, by their ids or beginnings of them."),
    ] = None,
    older_than: Annotated[
        str | None,
        typer.Option(
            metavar="AGE",
            help="All flows that ended so long ago: 90d, 12h, 30m.",
            show_default=False,
        ),
    ] = None,
    batch: Annotated[
        int,
        option.number("N", "Flows in one bundle at most, with --older-than.", least=1),
    ] = 100,
    wait: Annotated[
        float,
        option.number(
            "SECONDS", "How long consumers that lag are waited for.", least=0, kind=float
        ),
    ] = 10.0,
    database_url: Url = None,
    data: Data = None,
    schema: Schema = "public",
    as_json: AsJson = False,
) -> None:
    """Seal flows, write them into a bundle, and delete them from the log, with their children.

    The bundle is verified and on the disk before anything is deleted. `import` brings it back.
    Exit code 1: a flow stays, and why was printed.
    """
    from chem_persistence.cli.commands.archive.flows import archive_from

    chosen = ArchiveOptions(flows or [], older_than, directory, actor, batch, wait)
    run(lambda: archive_from(Target(database_url, data, schema), chosen, as_json=as_json))
