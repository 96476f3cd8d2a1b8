"""Databases that tests have one after another, each as a new copy of the template would be.

To create a database and to drop it costs ten times what it costs to empty one, and the first
sessions of a new one read its catalogs. So a database is lent again, unless a test has changed more
than rows: before each loan all that `IS_AS_NEW` looks at must be what it was in the first copy.
"""

import asyncio
import threading
from collections.abc import Coroutine
from contextlib import suppress
from functools import cache
from typing import Any, TypeAlias, TypeVar
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import asyncpg
import msgspec

from tests.support.servers.citus import distribute_on

__all__ = ["Lender", "close_lenders", "in_loop", "lender"]

MOST_LOANS = 100
MOST_BYTES = 4 << 20
"""Deleted rows stay in the files: a database that is larger, or was lent as often, is dropped."""

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
Result = TypeVar("Result")

FAILURES = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError)
LENDERS: "list[Lender]" = []

SESSION = {
    "application_name": "lender of the tests' databases",
    "session_replication_role": "replica",  # no trigger fires: neither guards nor foreign keys
    "lock_timeout": "20s",
    "statement_timeout": "60s",
    "idle_in_transaction_session_timeout": "60s",
    "jit": "off",
}

CATALOGS = (
    *("pg_attrdef", "pg_attribute", "pg_cast", "pg_class", "pg_collation", "pg_constraint"),
    *("pg_default_acl", "pg_description", "pg_enum", "pg_event_trigger", "pg_extension"),
    *("pg_foreign_server", "pg_index", "pg_inherits", "pg_language", "pg_largeobject_metadata"),
    *("pg_namespace", "pg_operator", "pg_policy", "pg_proc", "pg_publication", "pg_rewrite"),
    *("pg_seclabel", "pg_sequence", "pg_statistic", "pg_statistic_ext", "pg_trigger", "pg_type"),
)
LEFT_OUT = {
    "pg_namespace": "WHERE nspname !~ '^pg_(toast_)?temp_'",
    "pg_statistic": "WHERE starelid >= 16384",
}
"""A session's first temporary table makes namespaces, which stay. The server's autovacuum analyzes
catalogs by itself, those of the template as well: after it, no copy would be as the first one was.
"""

END_OTHERS = """
    SELECT pg_terminate_backend(pid, 20000) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid()
        AND backend_type = 'client backend'
"""

READ_LAYOUT = """
    SELECT c.relkind = 'S' AS is_sequence, format('%I.%I', n.nspname, c.relname) AS name
    FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p', 'm', 'S') AND n.nspname <> 'information_schema'
        AND n.nspname !~ '^pg_'
    ORDER BY c.oid
"""

READ_DATABASE = """
    (SELECT (datdba, datallowconn, datconnlimit, datacl)::text FROM pg_database
        WHERE datname = current_database()),
    (SELECT array_agg((setrole, setconfig)::text) FROM pg_db_role_setting
        WHERE setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database())),
    (SELECT count(*) FROM pg_prepared_xacts WHERE database = current_database()),
    (SELECT count(*) FROM pg_replication_slots WHERE database = current_database()),
    (SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
        AND pid <> pg_backend_pid() AND backend_type = 'client backend'),
    (SELECT array_agg(DISTINCT (relpages, reltuples)::text) FROM pg_class WHERE oid >= 16384)
"""
"""The last one: what ANALYZE and VACUUM tell the planner."""


class Layout(msgspec.Struct, frozen=True):
    """What a copy of a template has, and the statements that make it so again and check it."""

    empty: str
    read: str
    size: str
    as_new: tuple[Any, ...]


class Database(msgspec.Struct):
    """A copy of a template, with a session of the lender's."""

    name: str
    distributed: bool
    session: Connection
    loans: int = 0


class Lender:
    """Lends copies of a template of one server to the tests of this process.

    Its sessions belong to one event loop, that of `loop`.
    """

    def __init__(self, url: str, template: str, options: str) -> None:
        self._url = url
        self._template = template
        self._options = options
        self._lock = asyncio.Lock()
        self._administrator: Connection | None = None
        self._free: list[Database] = []
        self._layouts: dict[bool, Layout] = {}
        self._distributed: str | None = None

    async def administrate(self, statement: str) -> None:
        """Run a statement that cannot run inside a transaction, in the server's own database.

        All run in one session, or in a new one if a test has ended the last.
        """
        async with self._lock:
            if self._administrator is None or self._administrator.is_closed():
                self._administrator = await asyncpg.connect(self._url)
            await self._administrator.execute(statement)

    async def lend(self, *, distributed: bool = False) -> Database:
        """Return a database as a new copy would be, or one with the texts that Citus runs."""
        for database in [free for free in self._free if free.distributed == distributed]:
            self._free.remove(database)
            if await self._is_as_new(database):
                return database
            await self._drop(database)
        return await self._copied(distributed=distributed)

    async def take_back(self, database: Database) -> None:
        """End the sessions of a database that was lent, and empty it for the next loan."""
        try:
            await self._empty(database)
        except FAILURES:
            await self._drop(database)
        else:
            self._free.append(database)

    async def close(self) -> None:
        """Drop what is left; a server that is gone has nothing left."""
        with suppress(*FAILURES):
            while self._free:
                await self._drop(self._free.pop())
            if self._distributed is not None:
                await self.administrate(f'DROP DATABASE "{self._distributed}"')
        if self._administrator is not None:
            self._administrator.terminate()

    async def _copied(self, *, distributed: bool) -> Database:
        name = f"test_{uuid4().hex}"
        await self._copy(await self._source(distributed=distributed), name)
        database = Database(name, distributed, await self._session(name))
        if distributed not in self._layouts:
            self._layouts[distributed] = await layout(database.session)
        return database

    async def _source(self, *, distributed: bool) -> str:
        """Return the name of the template; that of distributed logs is made first."""
        if not distributed:
            return self._template
        if self._distributed is None:
            name = f"test_template_{uuid4().hex}"
            await self._copy(self._template, name)
            await distribute_on(beside(self._url, name))
            self._distributed = name
        return self._distributed

    async def _copy(self, source: str, name: str) -> None:
        await self.administrate(f'CREATE DATABASE "{name}" TEMPLATE "{source}"{self._options}')

    async def _drop(self, database: Database) -> None:
        database.session.terminate()
        await self.administrate(f'DROP DATABASE "{database.name}" WITH (FORCE)')

    async def _session(self, name: str) -> Connection:
        return await asyncpg.connect(beside(self._url, name), server_settings=SESSION)

    async def _empty(self, database: Database) -> None:
        if database.session.is_closed():
            database.session = await self._session(database.name)
        await database.session.fetch(END_OTHERS)
        await database.session.fetch(self._layouts[database.distributed].empty)
        database.loans += 1

    async def _is_as_new(self, database: Database) -> bool:
        known = self._layouts[database.distributed]
        try:
            size = await database.session.fetchval(known.size)
            found = await database.session.fetchrow(known.read)
        except FAILURES:
            return False
        few = size <= MOST_BYTES and database.loans < MOST_LOANS
        return few and found is not None and tuple(found) == known.as_new


async def layout(session: Connection) -> Layout:
    """Read what a new copy has; rows that it has, as those of the migrations, must stay."""
    found = await session.fetch(READ_LAYOUT)
    tables = [row["name"] for row in found if not row["is_sequence"]]
    sequences = [row["name"] for row in found if row["is_sequence"]]
    filled = [
        name for name in tables if await session.fetchval(f"SELECT EXISTS (SELECT FROM {name})")
    ]
    emptied = [name for name in tables if name not in filled]
    newest = await session.fetchval("SELECT pg_snapshot_xmax(pg_current_snapshot())::text")
    begun = {name: await session.fetchrow(f"SELECT * FROM {name}") for name in sequences}
    deletes = ", ".join(f"d{n} AS (DELETE FROM {name})" for n, name in enumerate(emptied))
    resets = [
        f"setval('{name}', {row['last_value']}, {row['is_called']})"
        for name, row in begun.items()
        if row is not None
    ]
    size = " + ".join(f"pg_table_size('{name}')" for name in tables)
    empty = f"WITH {deletes} SELECT {', '.join([*resets, 'pg_stat_force_next_flush()'])}"
    read = f"SELECT {', '.join([*checks(emptied, filled, sequences, newest), READ_DATABASE])}"
    as_new = await session.fetchrow(read)
    assert as_new is not None
    return Layout(empty, read, f"SELECT {size}, pg_stat_reset()", tuple(as_new))


def checks(emptied: list[str], filled: list[str], sequences: list[str], newest: str) -> list[str]:
    """Return expressions that change with any row, sequence or object of a database."""
    changed = f"(count(*), count(*) FILTER (WHERE age(xmin) <= age('{newest}'::xid)))::text"
    return [
        *(f"EXISTS (SELECT FROM {name})" for name in emptied),
        *(f"(SELECT array_agg(t::text ORDER BY t::text) FROM {name} AS t)" for name in filled),
        *(f"(SELECT (last_value, is_called)::text FROM {name})" for name in sequences),
        *(f"(SELECT {changed} FROM {name} {LEFT_OUT.get(name, '')})" for name in CATALOGS),
    ]


def beside(url: str, database: str) -> str:
    """Return the URL of another database of the same server."""
    return urlunsplit(urlsplit(url)._replace(path=f"/{database}"))


@cache
def lender(url: str, template: str, options: str) -> Lender:
    """Return this process's lender of a server's databases; copies are made with `options`."""
    made = Lender(url, template, options)
    LENDERS.append(made)
    return made


def close_lenders() -> None:
    """Drop the databases that this process has left."""
    while LENDERS:
        asyncio.run_coroutine_threadsafe(LENDERS.pop().close(), loop()).result(60)


async def in_loop(work: Coroutine[Any, Any, Result]) -> Result:
    """Wait for what runs in the lender's event loop."""
    return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, loop()))


@cache
def loop() -> asyncio.AbstractEventLoop:
    """Start the event loop of the lender's sessions, in a thread of its own."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="administrator", daemon=True).start()
    return loop
