"""The commands. Exit codes: 0 all is well, 1 something was found, 2 wrong use, 3 the database is the trouble."""

from collections.abc import Coroutine
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

import anyio
import typer

from chem_persistence.cli.roles import RolesOptions, run_roles
from chem_persistence.cli.verify import VerifyOptions, run_verify
from chem_persistence.errors import ChemPersistenceError, InvalidArgument
from chem_persistence.postgres.roles import APPLICATION, OWNER, READER

__all__ = ["app", "roles", "verify"]

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="The memory of scientific workflows.",
)

_DatabaseUrl = Annotated[
    str, typer.Option(envvar="DATABASE_URL", show_envvar=True, help="a URL as libpq takes it")
]


@app.command()
def verify(
    database_url: _DatabaseUrl,
    schema: Annotated[str, typer.Option(help="the schema that holds the tables")] = "public",
    flow: Annotated[list[UUID] | None, typer.Option(help="only this flow; may be repeated")] = None,
    anchors: Annotated[Path | None, typer.Option(help="compare with the heads in this file")] = None,
    public_key: Annotated[Path | None, typer.Option(help="the anchors must be signed: PEM, Ed25519")] = None,
    write_anchors: Annotated[Path | None, typer.Option(help="write the heads of all sound flows")] = None,
    sign_with: Annotated[Path | None, typer.Option(help="sign them: PEM, Ed25519")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON object")] = False,  # noqa: FBT002
) -> None:
    """Check every flow's hash chain and every artifact, and say what was tampered with."""
    options = VerifyOptions(
        database_url=database_url,
        schema=schema,
        flow_ids=flow or None,
        anchors=anchors,
        public_key=public_key,
        write_anchors=write_anchors,
        sign_with=sign_with,
        as_json=as_json,
    )
    raise typer.Exit(_run(run_verify(options)))


@app.command()
def roles(
    database_url: _DatabaseUrl,
    schema: Annotated[str, typer.Option(help="the schema that holds the tables")] = "public",
    owner: Annotated[str, typer.Option(help="the role that owns the tables and migrates")] = OWNER,
    application: Annotated[str, typer.Option(help="the role that reads and appends")] = APPLICATION,
    reader: Annotated[str, typer.Option(help="the role that reads")] = READER,
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON object")] = False,  # noqa: FBT002
) -> None:
    """Divide the rights on the log among three roles; the URL is a superuser's. Run it after each migration."""
    options = RolesOptions(
        database_url=database_url,
        schema=schema,
        owner=owner,
        application=application,
        reader=reader,
        as_json=as_json,
    )
    raise typer.Exit(_run(run_roles(options)))


def _run(work: Coroutine[Any, Any, int]) -> int:
    """Run a command to its exit code; a user's mistake and a database's trouble are one line."""

    async def awaited() -> int:
        return await work

    try:
        return anyio.run(awaited)
    except InvalidArgument as error:
        typer.echo(f"error: {error}", err=True)
        return 2
    except (ChemPersistenceError, OSError) as error:
        typer.echo(f"error: {error}", err=True)
        return 3
