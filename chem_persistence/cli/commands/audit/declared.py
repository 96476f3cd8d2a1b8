"""The commands `verify` and `lost`: their names, arguments and help.

What a command does is in the file of its name, which is imported when it is called.
"""

from pathlib import Path
from typing import Annotated

import typer

from chem_persistence.cli import options as option
from chem_persistence.cli.exit import run
from chem_persistence.cli.options import AsJson, Data, Schema, Target, Url

__all__ = ["lost", "verify"]

Bundles = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="Also check every bundle of archived flows, in this folder.",
        show_default=False,
        exists=True,
        file_okay=False,
    ),
]


def verify(
    bundle: option.BundleToVerify = None,
    flows_: option.Flows = None,
    bundles: Bundles = None,
    anchors: option.InputAnchors = None,
    public_key: option.PublicKey = None,
    write_anchors: option.OutputAnchors = None,
    sign_with: option.SigningKey = None,
    database_url: Url = None,
    data: Data = None,
    schema: Schema = "public",
    as_json: AsJson = False,
) -> None:
    """Check the hash chain of every flow and every artifact for tampering, in the log or a BUNDLE.

    A bundle is verified without a database; of the options --public-key and --json can be given.
    Archived flows are verified with --bundles.

    Exit code 1: something was tampered with, or a bundle is missing.
    """
    from chem_persistence.cli.commands.audit.verify import VerifyOptions, run_verification

    options = VerifyOptions(
        bundle=bundle,
        target=Target(database_url, data, schema),
        flows=flows_ or None,
        bundles=bundles,
        anchors=anchors,
        public_key=public_key,
        write_anchors=write_anchors,
        sign_with=sign_with,
        as_json=as_json,
    )
    run(lambda: run_verification(options))


def lost(
    position: option.SeenPosition = None,
    events: option.SeenEvents = None,
    anchors: option.InputAnchors = None,
    database_url: Url = None,
    data: Data = None,
    schema: Schema = "public",
    as_json: AsJson = False,
) -> None:
    """Compare what was known of the log with what it has, after a failover or a restore.

    Exit code 1: something is gone.
    """
    from chem_persistence.cli.commands.audit.lost import LostOptions, find_lost

    options = LostOptions(
        target=Target(database_url, data, schema),
        position=position,
        events=events,
        anchors=anchors,
        as_json=as_json,
    )
    run(lambda: find_lost(options))
