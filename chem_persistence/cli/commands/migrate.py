"""The command `migrate`."""

from chem_persistence.cli.database import Place, server_url
from chem_persistence.cli.exit import ExitCode, run
from chem_persistence.cli.options import AsJson, Data, DatabaseUrl, Schema
from chem_persistence.cli.terminal.escaping import shown
from chem_persistence.cli.terminal.printing import print_json, print_line
from chem_persistence.errors import MigrationError
from chem_persistence.postgres.connection.pool import PoolProvider, build_pool, open_pool
from chem_persistence.postgres.connection.session import Session
from chem_persistence.postgres.schema.migrations import (
    Migration,
    known_migrations,
    pending_migrations,
)

__all__ = ["migrate"]


def migrate(
    database_url: DatabaseUrl = None,
    data: Data = None,
    schema: Schema = "public",
    as_json: AsJson = False,
) -> None:
    """Bring the schema up to date: all that is missing, in one transaction, or nothing.

    Any number of processes may do this at once. What is up to date is only read.
    """
    run(lambda: _migrate(Place(database_url, data, schema), as_json=as_json))


async def _migrate(place: Place, *, as_json: bool) -> int:
    async with server_url(place, create=True) as url:
        pending = await _pending(url, place.schema)
        async with await build_pool(url, max_size=1, schema=place.schema):
            pass
    version = len(known_migrations())
    if as_json:
        applied = [{"version": migration.version, "name": migration.name} for migration in pending]
        print_json({"schema": place.schema, "version": version, "applied": applied})
        return ExitCode.WELL
    for migration in pending:
        print_line(f"applied {migration.version:04} {migration.name}")
    print_line(f"schema {shown(place.schema)} is at migration {version}, which is this library's")
    return ExitCode.WELL


async def _pending(url: str, schema: str) -> list[Migration]:
    """Look at what there is to do; the server's age and the schema's are checked when it is done."""
    async with await open_pool(url, max_size=1, schema=schema) as pool:
        try:
            return list(
                await Session(PoolProvider(pool)).run(
                    lambda connection: pending_migrations(connection, schema, known_migrations()),
                )
            )
        except MigrationError:
            return []
