"""The command `roles`."""

from msgspec.structs import asdict

from chem_persistence.cli.database import server_url
from chem_persistence.cli.exit import ExitCode
from chem_persistence.cli.options import RoleOptions, Target
from chem_persistence.cli.terminal.printing import print_json, print_line
from chem_persistence.cli.terminal.text import shown
from chem_persistence.errors import StoreError
from chem_persistence.postgres.admin.roles import create_roles, usual_names
from chem_persistence.postgres.connection.pool import PoolProvider, build_pool

__all__ = ["grant_rights"]

_INSUFFICIENT_PRIVILEGE = "42501"


async def grant_rights(target: Target, options: RoleOptions, *, as_json: bool) -> int:
    """Create the roles, grant them their rights and print them; return the exit code."""
    names = asdict(usual_names(target.schema)) | options.given()
    try:
        async with (
            server_url(target) as url,
            await build_pool(url, schema=target.schema, max_size=1) as pool,
            PoolProvider(pool).acquire() as connection,
        ):
            await create_roles(connection, schema=target.schema, **options.given())
    except StoreError as error:
        if error.sqlstate != _INSUFFICIENT_PRIVILEGE:
            raise
        raise StoreError(
            f"only a superuser may create roles and grant their rights: {error.reason}",
            error.sqlstate,
        ) from error
    if as_json:
        print_json({"schema": target.schema, **names})
        return ExitCode.WELL
    print_line(
        f"owner        {shown(names['owner'])}: owns schema {shown(target.schema)}, and migrates it"
    )
    print_line(f"application  {shown(names['application'])}: reads and appends")
    print_line(f"reader       {shown(names['reader'])}: reads")
    print_line(f"archivist    {shown(names['archivist'])}: reads, seals and archives")
    print_line("Nobody can log in as these: grant them to roles that can.")
    return ExitCode.WELL
