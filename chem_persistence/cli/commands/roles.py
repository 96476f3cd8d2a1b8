"""The command `roles`."""

from typing import Annotated

import typer

from chem_persistence.cli.database import Place, server_url
from chem_persistence.cli.exit import ExitCode, run
from chem_persistence.cli.options import AsJson, Data, DatabaseUrl, Schema
from chem_persistence.cli.terminal.escaping import shown
from chem_persistence.cli.terminal.printing import print_json, print_line
from chem_persistence.errors import StoreError
from chem_persistence.postgres.admin.roles import APPLICATION, OWNER, READER, create_roles
from chem_persistence.postgres.connection.pool import PoolProvider, build_pool

__all__ = ["roles"]

_INSUFFICIENT_PRIVILEGE = "42501"


def roles(
    owner: Annotated[str, typer.Option(help="The role that owns the tables and migrates.")] = OWNER,
    application: Annotated[
        str, typer.Option(help="The role that reads and appends.")
    ] = APPLICATION,
    reader: Annotated[str, typer.Option(help="The role that reads.")] = READER,
    database_url: DatabaseUrl = None,
    data: Data = None,
    schema: Schema = "public",
    as_json: AsJson = False,
) -> None:
    """Migrate the schema and divide the rights on it among three roles; the URL is a superuser's.

    Run it after each migration. What is as it should be is left alone.
    """
    names = {"owner": owner, "application": application, "reader": reader}
    run(lambda: _roles(Place(database_url, data, schema), names, as_json=as_json))


async def _roles(place: Place, names: dict[str, str], *, as_json: bool) -> int:
    try:
        async with (
            server_url(place) as url,
            await build_pool(url, schema=place.schema, max_size=1) as pool,
            PoolProvider(pool).acquire() as connection,
        ):
            await create_roles(connection, schema=place.schema, **names)
    except StoreError as error:
        if error.sqlstate != _INSUFFICIENT_PRIVILEGE:
            raise
        raise StoreError(
            f"only a superuser may divide the rights: {error.reason}", error.sqlstate
        ) from error
    if as_json:
        print_json({"schema": place.schema, **names})
        return ExitCode.WELL
    print_line(
        f"owner        {shown(names['owner'])}: owns schema {shown(place.schema)}, and migrates it"
    )
    print_line(f"application  {shown(names['application'])}: reads and appends")
    print_line(f"reader       {shown(names['reader'])}: reads")
    print_line("Nobody can log in as these: grant them to roles that can.")
    return ExitCode.WELL
