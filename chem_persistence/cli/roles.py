"""The command `roles`."""

import msgspec
import typer

from chem_persistence.postgres.pool import PoolProvider, build_pool
from chem_persistence.postgres.roles import create_roles

__all__ = ["RolesOptions", "run_roles"]


class RolesOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What the command was told."""

    database_url: str
    schema: str
    owner: str
    application: str
    reader: str
    as_json: bool


async def run_roles(options: RolesOptions) -> int:
    """Migrate the schema, divide the rights on it, and say who may do what."""
    names = {"owner": options.owner, "application": options.application, "reader": options.reader}
    async with (
        await build_pool(options.database_url, schema=options.schema, max_size=1) as pool,
        PoolProvider(pool).acquire() as connection,
    ):
        await create_roles(connection, schema=options.schema, **names)
    if options.as_json:
        typer.echo(msgspec.json.encode({"schema": options.schema, **names}))
        return 0
    typer.echo(f"owner        {_shown(options.owner)}: owns schema {_shown(options.schema)}, and migrates it")
    typer.echo(f"application  {_shown(options.application)}: reads and appends")
    typer.echo(f"reader       {_shown(options.reader)}: reads")
    typer.echo("Nobody can log in as these: grant them to roles that can.")
    return 0


def _shown(name: str) -> str:
    """Show a name so that it cannot write on the terminal what it likes."""
    return name if name.isidentifier() else repr(name)
