"""The locks that `migrate --plan` names are those that a server holds after each migration."""

import asyncpg
import pytest

from chem_persistence.postgres.schema.locks import planned_locks
from chem_persistence.postgres.schema.migrations import known_migrations, migrate

pytestmark = pytest.mark.superuser

WEAK = {"AccessShareLock", "RowShareLock", "RowExclusiveLock"}
READ_LOCKS = """
    SELECT relation.relname, locks.mode
    FROM pg_locks AS locks JOIN pg_class AS relation ON relation.oid = locks.relation
    WHERE locks.pid = pg_backend_pid() AND relation.relkind = 'r'
        AND relation.relnamespace = 'public'::regnamespace AND relation.relname = ANY ($1)
"""
READ_TABLES = """
    SELECT array_agg(relname::text) FROM pg_class
    WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace
"""


async def test_each_migration_holds_the_locks_that_its_plan_names(empty_database_url: str) -> None:
    known = known_migrations()
    connection = await asyncpg.connect(empty_database_url)
    try:
        await migrate(connection, "public", known[:1])
        for migration in known[1:]:
            before = await connection.fetchval(READ_TABLES)
            async with connection.transaction():
                for statement in migration.statements:
                    await connection.execute(statement)
                held = await connection.fetch(READ_LOCKS, before)
            planned = {
                (lock.table, lock.mode)
                for lock in planned_locks([migration], known)
                if not lock.afterwards
            }
            assert planned == {
                (row["relname"], as_named(row["mode"])) for row in held if row["mode"] not in WEAK
            }, migration.name
    finally:
        await connection.close()


def as_named(mode: str) -> str:
    """Return a mode of pg_locks, such as ShareRowExclusiveLock, as LOCK TABLE names it."""
    words = "".join(f" {letter}" if letter.isupper() else letter for letter in mode)
    return words.strip().upper().removesuffix(" LOCK")
