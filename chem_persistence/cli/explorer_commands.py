"""The command that serves the explorer: its name, arguments and help."""

from typing import Annotated

import typer

from chem_persistence.cli.exit import run
from chem_persistence.cli.options import AsJson, Data, Schema, Target, Url

__all__ = ["EXPLORER_COMMANDS", "serve"]

Host = Annotated[
    str,
    typer.Option(
        metavar="ADDRESS",
        help="Listen there. Who reaches another address than this machine's own reads the log.",
    ),
]
Port = Annotated[int, typer.Option(metavar="N", min=0, max=65535, help="0 is any free port.")]
AllowHost = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME", help="A host name to answer for, behind a proxy; may be given repeatedly."
    ),
]


AllowActions = Annotated[
    bool,
    typer.Option("--allow-actions", help="Let people retry, cancel and answer flows."),
]


def serve(
    host: Host = "127.0.0.1",
    port: Port = 8460,
    allow_host: AllowHost = None,
    allow_actions: AllowActions = False,
    database_url: Url = None,
    data: Data = None,
    schema: Schema = "public",
    as_json: AsJson = False,
) -> None:
    """Serve the explorer, web pages of the flows, artifacts and workers, until Ctrl-C.

    It reads, and follows the log: a page shows what is new within two seconds. A browser loads
    nothing from anywhere else. With --allow-actions who opens the address that is printed, which
    holds a key, may change flows. It needs the extra explorer.
    """
    from chem_persistence.cli.commands.serve import ExplorerAddress, serve_explorer

    target = Target(database_url, data, schema)
    address = ExplorerAddress(host, port, allow_host or [])
    run(lambda: serve_explorer(target, address, may_act=allow_actions, as_json=as_json))


EXPLORER_COMMANDS = (serve,)
"""The commands in the order of the help."""
