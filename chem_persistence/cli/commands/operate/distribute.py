"""The command `distribute`."""

from chem_persistence.cli.database import server_url
from chem_persistence.cli.exit import ExitCode
from chem_persistence.cli.options import Target
from chem_persistence.cli.terminal.printing import print_json, print_line
from chem_persistence.cli.terminal.text import shown
from chem_persistence.postgres.admin.distribute import distribute_log
from chem_persistence.postgres.connection.pool import PoolProvider, build_pool

__all__ = ["distribute_schema"]


async def distribute_schema(target: Target, *, as_json: bool) -> int:
    """Migrate and distribute the schema, and print its distributed tables; return the exit code."""
    async with (
        server_url(target) as url,
        await build_pool(url, schema=target.schema, max_size=1) as pool,
        PoolProvider(pool).acquire() as connection,
    ):
        tables = await distribute_log(connection, schema=target.schema)
    if as_json:
        print_json({"schema": target.schema, "tables": tables})
        return ExitCode.WELL
    width = max(len(table.table) for table in tables)
    for table in tables:
        print_line(f"{shown(table.table).ljust(width)}  is distributed by {table.distributed_by}")
    return ExitCode.WELL
