"""The command `migrate`."""

from chem_persistence.cli.database import server_url
from chem_persistence.cli.exit import ExitCode
from chem_persistence.cli.options import Target
from chem_persistence.cli.terminal.printing import print_json, print_line
from chem_persistence.cli.terminal.text import shown
from chem_persistence.errors import MigrationError
from chem_persistence.postgres.connection.pool import PoolProvider, build_pool, open_pool
from chem_persistence.postgres.connection.session import Session
from chem_persistence.postgres.schema.migrations import (
    Migration,
    known_migrations,
    pending_migrations,
)

__all__ = ["migrate_schema"]


async def migrate_schema(target: Target, *, as_json: bool) -> int:
    """Apply the missing migrations and print their names; return the exit code."""
    async with server_url(target, create=True) as url:
        pending = await _pending(url, target.schema)
        async with await build_pool(url, max_size=1, schema=target.schema):
            pass
    version = len(known_migrations())
    if as_json:
        applied = [{"version": migration.version, "name": migration.name} for migration in pending]
        print_json({"schema": target.schema, "version": version, "applied": applied})
        return ExitCode.WELL
    for migration in pending:
        print_line(f"applied {migration.version:04} {migration.name}")
    print_line(f"schema {shown(target.schema)} is at migration {version}, which is this library's")
    return ExitCode.WELL


async def _pending(url: str, schema: str) -> list[Migration]:
    """Return the pending migrations; none if the schema is unusable, as `build_pool` reports."""
    async with await open_pool(url, max_size=1, schema=schema) as pool:
        try:
            return list(
                await Session(PoolProvider(pool)).run(
                    lambda connection: pending_migrations(connection, schema, known_migrations()),
                )
            )
        except MigrationError:
            return []
