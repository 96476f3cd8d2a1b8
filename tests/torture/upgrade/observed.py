"""A migration, observed: how long each statement took, and which locks it held for how long."""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TypeAlias

import asyncpg
import msgspec

from chem_persistence.postgres.schema.migrations import migrate

__all__ = ["Migrated", "migrate_observed"]

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

READ_LOCKS = """
    SELECT relation.relname, locks.mode
    FROM pg_locks AS locks JOIN pg_class AS relation ON relation.oid = locks.relation
    WHERE locks.pid = $1 AND locks.granted AND relation.relkind = 'r'
        AND relation.relnamespace = 'public'::regnamespace
        AND relation.relname <> 'schema_migrations'
        AND locks.mode NOT IN ('AccessShareLock', 'RowShareLock', 'RowExclusiveLock')
"""
"""The locks that hold up anything that readers and writers of the log do, or another migration."""

POLL_SECONDS = 0.002

_COMMENT = re.compile(r"\s*--")


class Migrated(msgspec.Struct):
    """When a migration ran, and what it did meanwhile.

    `statements` are its own and their seconds; `locks` the seconds that each table and mode was
    seen locked for, which is exact to some milliseconds.
    """

    began: float
    ended: float = 0.0
    statements: list[tuple[float, str]] = []
    locks: dict[tuple[str, str], float] = {}

    @property
    def seconds(self) -> float:
        return self.ended - self.began


async def migrate_observed(url: str) -> Migrated:
    """Migrate the schema `public`, and watch from another session."""
    migrated = Migrated(time.monotonic())

    def note(query: asyncpg.connection.LoggedQuery) -> None:
        lines = [line for line in query.query.splitlines() if not _COMMENT.match(line)]
        migrated.statements.append((query.elapsed, " ".join(" ".join(lines).split())))

    async with connected(url) as migrating, connected(url) as watching:
        migrating.add_query_logger(note)
        watcher = asyncio.create_task(_watch(watching, migrating.get_server_pid(), migrated.locks))
        await migrate(migrating, "public")
        migrated.ended = time.monotonic()
        watcher.cancel()
        await asyncio.wait([watcher])
        migrating.remove_query_logger(note)
    return migrated


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[Connection]:
    connection = await asyncpg.connect(url)
    try:
        yield connection
    finally:
        await connection.close()


async def _watch(connection: Connection, pid: int, held: dict[tuple[str, str], float]) -> None:
    """Add up how long the session `pid` is seen with each lock; it ends by being cancelled."""
    since: Mapping[tuple[str, str], float] = {}
    while True:
        rows, now = await connection.fetch(READ_LOCKS, pid), time.monotonic()
        seen = {(row["relname"], row["mode"]) for row in rows}
        for lock in seen:
            held[lock] = held.get(lock, 0.0) + now - since.get(lock, now)
        since = dict.fromkeys(seen, now)
        await asyncio.sleep(POLL_SECONDS)
