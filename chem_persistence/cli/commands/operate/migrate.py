"""The command `migrate`."""

from collections.abc import Mapping

from chem_persistence.cli.database import server_url
from chem_persistence.cli.exit import ExitCode
from chem_persistence.cli.options import Target
from chem_persistence.cli.terminal.printing import column, print_json, print_line, print_table
from chem_persistence.cli.terminal.text import shown
from chem_persistence.errors import MigrationError
from chem_persistence.postgres.connection.pool import PoolProvider, build_pool, open_pool
from chem_persistence.postgres.connection.session import Session
from chem_persistence.postgres.schema.locks import PlannedLock, planned_locks
from chem_persistence.postgres.schema.migrations import (
    Migration,
    known_migrations,
    pending_migrations,
    validate_constraints,
)
from chem_persistence.postgres.schema.statements import statement
from chem_persistence.views.wording import counted

__all__ = ["migrate_schema", "print_plan"]

MEASURE_RELATIONS = statement("status/measure_relations")


async def migrate_schema(target: Target, *, as_json: bool) -> int:
    """Apply the missing migrations and print their names; return the exit code."""
    async with server_url(target, create=True) as url:
        pending = await _pending(url, target.schema)
        async with await build_pool(url, max_size=1, schema=target.schema) as pool:
            validated = await Session(PoolProvider(pool)).run(
                lambda connection: validate_constraints(connection, target.schema)
            )
    version = len(known_migrations())
    if as_json:
        applied = [{"version": migration.version, "name": migration.name} for migration in pending]
        print_json({"schema": target.schema, "version": version, "applied": applied})
        return ExitCode.WELL
    for migration in pending:
        print_line(f"applied {migration.version:04} {migration.name}")
    for name in validated:
        print_line(f"checked the rows from before {name}, which a stopped migration had left")
    print_line(f"schema {shown(target.schema)} is at migration {version}, which is this library's")
    return ExitCode.WELL


async def print_plan(target: Target, *, as_json: bool) -> int:
    """Print which tables the missing migrations lock, and for how long; change nothing."""
    async with server_url(target) as url:
        pending = await _pending(url, target.schema)
        async with await open_pool(url, max_size=1, schema=target.schema) as pool:
            found = await Session(PoolProvider(pool)).fetch(MEASURE_RELATIONS, target.schema)
    rows = {row["name"]: max(row["about_rows"] or 0, 0) for row in found}
    locks = [lock for lock in planned_locks(pending, known_migrations()) if lock.table in rows]
    if as_json:
        print_json({"schema": target.schema, "locks": [_as_json(lock, rows) for lock in locks]})
        return ExitCode.WELL
    columns = [column("migration"), column("table"), column("lock"), column("holds up")]
    lines = [
        (
            f"{lock.version:04} {lock.migration}",
            lock.table,
            lock.mode.lower(),
            lock.holds_up,
            f"{'after the commit, ' if lock.afterwards else ''}"
            + (f"reads {rows[lock.table]:,} rows" if lock.reads_all else "milliseconds"),
        )
        for lock in locks
    ]
    if lines:
        print_table([*columns, column("for how long", fold=True)], lines)
    print_line(f"{counted(len(pending), 'migration')} to apply, in one transaction")
    if lines:
        print_line("a lock waits for the transactions under way, and others wait behind it")
        print_line("it is held until the commit, so longer if a later migration reads all rows")
    return ExitCode.WELL


def _as_json(lock: PlannedLock, rows: Mapping[str, int]) -> dict[str, object]:
    return {
        "version": lock.version,
        "migration": lock.migration,
        "table": lock.table,
        "mode": lock.mode,
        "holds_up": lock.holds_up,
        "reads_rows": rows[lock.table] if lock.reads_all else None,
        "after_the_commit": lock.afterwards,
    }


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
