"""Migrations: from an empty database to the schema, once, for any number of processes."""

import asyncio
import fcntl
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeAlias

import asyncpg
import pytest
from asyncpg.types import ServerVersion

from chem_persistence import (
    InvalidArgument,
    MigrationError,
    PgEventStore,
    PoolProvider,
    StoreError,
    UnsupportedServer,
    build_pool,
)
from chem_persistence.postgres.schema.describe import describe_schema
from chem_persistence.postgres.schema.migrations import (
    OLDEST_SERVER,
    Migration,
    known_migrations,
    migrate,
)
from chem_persistence.postgres.schema.statements import statement
from tests.support.flows.flows import initialized, new_flow_id
from tests.support.servers.roles import new_role

LOCK_MIGRATIONS = statement("migrations/lock_migrations")


Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

REPOSITORY = Path(__file__).resolve().parents[3]
PROCESSES = 8
CONTENDER = """
import asyncio, fcntl, sys
from chem_persistence import build_pool

async def main(url, schema):
    async with await build_pool(url, max_size=1, schema=schema):
        print("migrated", flush=True)

with open(sys.argv[3]) as gate:
    print("ready", flush=True)
    fcntl.flock(gate, fcntl.LOCK_SH)  # waits until the test lets go of the gate
asyncio.run(main(sys.argv[1], sys.argv[2]))
"""

NOWHERE = "postgresql://nobody@127.0.0.1:1/nowhere"

ODD_NAMES = [
    "Chem",
    "CHEM",
    "two words",
    'a "quoted" name',
    '"',
    "semi;colon",
    "'; DROP TABLE event_log; --",
    '"; DROP TABLE event_log; --',
    "comma, dot.",
    "back\\slash",
    "per%cent %I %s $1",
    "line\nbreak\ttab",
    " leading and trailing ",
    "-- comment",
    "Übergröße",
    "分子",
    "🧪",
    "select",
    "PG_upper",
    "a" * 63,
    "é" * 31,
]


@asynccontextmanager
async def connected(url: str, schema: str = "public") -> AsyncIterator[Connection]:
    """Connect as the pool does: with the schema as the search path."""
    quoted = '"' + schema.replace('"', '""') + '"'
    connection = await asyncpg.connect(url, server_settings={"search_path": quoted})
    try:
        yield connection
    finally:
        await connection.close()


async def make_pool(url: str, schema: str = "public") -> None:
    async with await build_pool(url, min_size=0, max_size=1, schema=schema):
        pass


async def recorded(connection: Connection) -> list[tuple[Any, ...]]:
    """Return the rows of the migrations table, with the transactions that wrote them."""
    return [
        tuple(row) for row in await connection.fetch("SELECT xmin::text, * FROM schema_migrations")
    ]


async def catalogue(connection: Connection) -> list[tuple[Any, ...]]:
    """Return the rows that define tables and columns, with the transactions that wrote them."""
    query = """
        SELECT pg_class.xmin::text, relname, pg_attribute.xmin::text, attname
        FROM pg_class JOIN pg_attribute ON attrelid = pg_class.oid
        WHERE relnamespace NOT IN (
            SELECT oid FROM pg_namespace
            WHERE nspname LIKE 'pg\\_%' OR nspname = 'information_schema'
        )
        ORDER BY relname, attnum
    """
    return [tuple(row) for row in await connection.fetch(query)]


async def schemas(connection: Connection) -> set[str]:
    query = (
        "SELECT nspname FROM pg_namespace WHERE nspname NOT LIKE 'pg\\_%' "
        "AND nspname <> 'information_schema'"
    )
    return {row["nspname"] for row in await connection.fetch(query)}


def broken_after(statement: str) -> list[Migration]:
    """Return the library's migrations and one that changes the schema before `statement` fails."""
    known = known_migrations()
    statements = (
        "CREATE TABLE half_done (a integer)",
        "ALTER TABLE event_log ADD COLUMN half text",
        statement,
    )
    return [*known, Migration(len(known) + 1, "broken", "b" * 64, statements)]


async def test_an_empty_database_gets_the_schema_when_a_pool_is_built(
    empty_database_url: str,
) -> None:
    async with await build_pool(empty_database_url, max_size=2) as pool:
        store = PgEventStore(PoolProvider(pool))
        event = await store.append_kind(new_flow_id(), initialized())
        assert await store.list(event.flow_id) == [event]
    async with connected(empty_database_url) as connection:
        rows = await connection.fetch("SELECT version, name, checksum FROM schema_migrations")
    assert [tuple(row) for row in rows] == [
        (m.version, m.name, m.checksum) for m in known_migrations()
    ]


async def test_a_second_pool_changes_nothing(empty_database_url: str) -> None:
    await make_pool(empty_database_url)
    async with connected(empty_database_url) as connection:
        before = (await recorded(connection), await catalogue(connection))
        written = await rows_written(connection)
        await make_pool(empty_database_url)
        assert (await recorded(connection), await catalogue(connection)) == before
        assert await rows_written(connection) == written


async def rows_written(connection: Connection) -> int:
    """Count the rows that were ever written in this database, once all other sessions are over.

    Those of pg_statistic are left out, which autovacuum writes when it likes, and those of the
    tables that all databases share, which the tests beside this one write.
    """
    others = """
        SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid()
            AND backend_type = 'client backend'
    """
    async with asyncio.timeout(60):
        while await connection.fetchval(others):
            pass
    count: int = await connection.fetchval(
        "SELECT sum(n_tup_ins + n_tup_upd + n_tup_del)::bigint FROM pg_stat_all_tables AS counted"
        " JOIN pg_class ON pg_class.oid = counted.relid"
        " WHERE NOT relisshared AND pg_class.relname <> 'pg_statistic'"
    )
    return count


@pytest.mark.parametrize("schema", ["public", pytest.param('Lab "A"', marks=pytest.mark.slow)])
async def test_eight_processes_that_start_at_once_on_an_empty_database_all_succeed(
    empty_database_url: str, tmp_path: Path, schema: str
) -> None:
    gate = tmp_path / "gate"
    with gate.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        processes = [
            subprocess.Popen(
                [sys.executable, "-c", CONTENDER, empty_database_url, schema, str(gate)],
                cwd=REPOSITORY,
                env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for _ in range(PROCESSES)
        ]
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
    ends = [process.communicate(timeout=120) for process in processes]
    assert ends == [("migrated\n", "")] * PROCESSES
    async with connected(empty_database_url, schema) as connection:
        assert len(await recorded(connection)) == len(known_migrations())


async def test_pools_of_one_process_that_are_built_at_once_all_succeed(
    empty_database_url: str,
) -> None:
    await asyncio.gather(*(make_pool(empty_database_url, f"lab {n % 3}") for n in range(12)))
    async with connected(empty_database_url) as connection:
        assert await schemas(connection) == {"public", "lab 0", "lab 1", "lab 2"}


@pytest.mark.parametrize("level", ["repeatable read", "serializable"])
async def test_a_waiting_migration_sees_what_the_one_before_it_did(
    empty_database_url: str, level: str
) -> None:
    """It does so at any default isolation level of the database."""
    async with connected(empty_database_url) as administrator:
        name = await administrator.fetchval("SELECT quote_ident(current_database())")
        await administrator.execute(
            f"ALTER DATABASE {name} SET default_transaction_isolation = '{level}'"
        )
        async with administrator.transaction(isolation="read_committed"):
            await administrator.execute(LOCK_MIGRATIONS, "public")
            pools = [asyncio.create_task(make_pool(empty_database_url)) for _ in range(2)]
            await waiting_for_the_lock(administrator, len(pools))
        await asyncio.gather(*pools)
        assert len(await recorded(administrator)) == len(known_migrations())


async def waiting_for_the_lock(connection: Connection, count: int) -> None:
    query = """
        SELECT count(*) FROM pg_locks
        WHERE locktype = 'advisory' AND NOT granted
            AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
    """
    while await connection.fetchval(query) < count:
        pass


async def test_a_recorded_checksum_that_is_not_the_files_is_refused(database_url: str) -> None:
    async with connected(database_url) as connection:
        await connection.execute(
            "UPDATE schema_migrations SET checksum = repeat('0', 64) WHERE version = 1"
        )
        before = await catalogue(connection)
        with pytest.raises(MigrationError, match=r"migration 1 .*applied from a file that differs"):
            await make_pool(database_url)
        assert await catalogue(connection) == before


async def test_a_recorded_migration_that_is_newer_than_the_library_is_refused(
    database_url: str,
) -> None:
    newest = len(known_migrations())
    async with connected(database_url) as connection:
        await connection.execute(
            "INSERT INTO schema_migrations VALUES ($1, 'from_the_future', repeat('f', 64), now())",
            newest + 1,
        )
    with pytest.raises(MigrationError) as caught:
        await make_pool(database_url)
    assert f"migration {newest + 1} (from_the_future)" in str(caught.value)
    assert f"last one is {newest}" in str(caught.value)


async def test_a_recorded_number_that_is_not_the_librarys_is_refused(database_url: str) -> None:
    async with connected(database_url) as connection:
        await connection.execute("DELETE FROM schema_migrations WHERE version = 2")
        await connection.execute("UPDATE schema_migrations SET version = 2 WHERE version = 1")
    with pytest.raises(MigrationError, match=r"migration 2 .*applied from a file that differs"):
        await make_pool(database_url)


async def test_a_gap_among_the_recorded_migrations_is_refused(empty_database_url: str) -> None:
    first, second, third = (Migration(n, f"m{n}", str(n) * 64, ("SELECT 1",)) for n in (1, 2, 3))
    async with connected(empty_database_url) as connection:
        await migrate(connection, "public", [first, second, third])
        await connection.execute("DELETE FROM schema_migrations WHERE version = 2")
        with pytest.raises(MigrationError, match="migration 3 "):
            await migrate(connection, "public", [first, second, third])


async def test_a_migrations_table_of_another_program_is_refused(empty_database_url: str) -> None:
    async with connected(empty_database_url) as connection:
        await connection.execute("CREATE TABLE schema_migrations (version varchar PRIMARY KEY)")
        with pytest.raises(MigrationError, match="another program"):
            await make_pool(empty_database_url)


async def test_a_later_migration_is_applied_to_a_schema_that_is_there(database_url: str) -> None:
    later = Migration(
        len(known_migrations()) + 1, "later", "1" * 64, ("CREATE TABLE later (a integer)",)
    )
    async with connected(database_url) as connection:
        before = await recorded(connection)
        await migrate(connection, "public", [*known_migrations(), later])
        after = await recorded(connection)
        assert after[:-1] == before
        assert after[-1][1:4] == (later.version, later.name, later.checksum)
        assert await connection.fetchval("SELECT to_regclass('later') IS NOT NULL")


@pytest.mark.parametrize("failure", ["SELECT 1 / 0", "CREATE TABLE event_log ()", "nonsense"])
async def test_a_migration_that_fails_in_the_middle_leaves_nothing(
    database_url: str, failure: str
) -> None:
    async with connected(database_url) as connection:
        before = (await recorded(connection), await describe_schema(connection, "public"))
        with pytest.raises((MigrationError, asyncpg.PostgresError)):
            await migrate(connection, "public", broken_after(failure))
    async with connected(database_url) as connection:
        assert (await recorded(connection), await describe_schema(connection, "public")) == before


async def test_a_first_migration_that_fails_leaves_no_schema(empty_database_url: str) -> None:
    async with connected(empty_database_url, "fresh") as connection:
        with pytest.raises(asyncpg.DivisionByZeroError):
            await migrate(connection, "fresh", broken_after("SELECT 1 / 0"))
        assert await schemas(connection) == {"public"}
        await migrate(connection, "fresh")
        assert await schemas(connection) == {"public", "fresh"}


async def test_a_process_that_dies_while_it_migrates_leaves_nothing(
    empty_database_url: str,
) -> None:
    async with (
        connected(empty_database_url) as administrator,
        connected(empty_database_url, "lab") as doomed,
    ):
        pid = doomed.get_server_pid()
        suicide = f"SELECT pg_terminate_backend({pid})"
        with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, OSError)):
            await migrate(doomed, "lab", broken_after(suicide))
        assert await schemas(administrator) == {"public"}
        await make_pool(empty_database_url, "lab")


@pytest.mark.slow
async def test_a_schema_may_have_any_name_that_the_server_accepts(database_url: str) -> None:
    flows = {}
    async with connected(database_url) as connection:
        expected = await describe_schema(connection, "public")
        for name in ODD_NAMES:
            async with await build_pool(database_url, min_size=0, max_size=1, schema=name) as pool:
                store = PgEventStore(PoolProvider(pool))
                flows[name] = await store.append_kind(new_flow_id(), initialized())
            assert await describe_schema(connection, name) == expected
        assert await schemas(connection) == {"public", *ODD_NAMES}
        assert await connection.fetchval("SELECT count(*) FROM event_log") == 0
    for name, event in flows.items():
        async with await build_pool(database_url, min_size=0, max_size=1, schema=name) as pool:
            assert await PgEventStore(PoolProvider(pool)).list(event.flow_id) == [event]


@pytest.mark.parametrize(
    "name",
    [
        "",
        "a" * 64,
        "é" * 32,
        "nul\0",
        "\0",
        "pg_",
        "pg_catalog",
        "pg_temp",
        "pg_mine",
        "information_schema",
        "$user",
        "\ud800",
        "a\udfff",
    ],
)
async def test_a_schema_name_that_the_server_cannot_keep_is_refused(name: str) -> None:
    with pytest.raises(InvalidArgument, match="schema") as caught:
        await make_pool(NOWHERE, name)
    assert caught.value.name == "schema"


async def test_two_schemas_of_one_database_are_independent(empty_database_url: str) -> None:
    flow_id = new_flow_id()
    async with (
        await build_pool(empty_database_url, max_size=1, schema="one") as one,
        await build_pool(empty_database_url, max_size=1, schema="two") as two,
    ):
        stores = [PgEventStore(PoolProvider(pool)) for pool in (one, two)]
        events = [
            await store.append_kind(flow_id, initialized(), expected_version=0) for store in stores
        ]
        assert [event.seq for event in events] == [1, 1]
        for store, event in zip(stores, events, strict=True):
            assert await store.list(flow_id) == [event]
        for store, pool in zip(stores, (one, two), strict=True):
            await store.aclose()
            async with pool.acquire() as connection:  # each has the types of its own schema
                assert connection.row_types.are_known  # type: ignore[attr-defined]
    async with connected(empty_database_url, "one") as connection:
        await connection.execute("UPDATE schema_migrations SET checksum = repeat('0', 64)")
    with pytest.raises(MigrationError, match="'one'"):
        await make_pool(empty_database_url, "one")
    await make_pool(empty_database_url, "two")


async def test_a_role_that_may_only_read_builds_a_pool_on_a_schema_that_is_up_to_date(
    empty_database_url: str,
) -> None:
    await make_pool(empty_database_url, "lab")
    async with (
        new_role(empty_database_url) as reader,
        connected(empty_database_url) as administrator,
    ):
        await administrator.execute(
            f"GRANT USAGE ON SCHEMA lab TO {reader.name};"
            f"GRANT SELECT ON ALL TABLES IN SCHEMA lab TO {reader.name}"
        )
        async with await build_pool(reader.url, max_size=1, schema="lab") as pool:
            assert await PgEventStore(PoolProvider(pool)).list(new_flow_id()) == []
            with pytest.raises(StoreError) as caught:
                await PgEventStore(PoolProvider(pool)).append_kind(new_flow_id(), initialized())
        assert caught.value.sqlstate == "42501"


async def test_a_schema_that_is_up_to_date_is_read_without_the_migrations_lock(
    database_url: str,
) -> None:
    async with connected(database_url) as holder, holder.transaction():
        await holder.execute(LOCK_MIGRATIONS, "public")
        async with asyncio.timeout(60):
            await make_pool(database_url)


async def test_a_role_that_may_not_create_the_schema_is_told_so(empty_database_url: str) -> None:
    async with new_role(empty_database_url) as stranger:
        with pytest.raises(StoreError) as caught:
            await make_pool(stranger.url, "lab")
    assert caught.value.sqlstate == "42501"


async def test_an_ordinary_owner_of_a_schema_migrates_it(empty_database_url: str) -> None:
    async with (
        new_role(empty_database_url) as owner,
        connected(empty_database_url) as administrator,
    ):
        await administrator.execute(f"CREATE SCHEMA lab AUTHORIZATION {owner.name}")
        await make_pool(owner.url, "lab")
        assert await describe_schema(administrator, "lab") != ""


class OldServer:
    """Stands in for a connection to an old server: it only returns the version."""

    def __init__(self, major: int) -> None:
        self._major = major

    def get_server_version(self) -> ServerVersion:
        return ServerVersion(self._major, 9, 0, "final", 0)

    def get_settings(self) -> SimpleNamespace:
        return SimpleNamespace(server_version=f"{self._major}.9")


@pytest.mark.parametrize("major", [9, 13, 14])
async def test_a_server_older_than_the_oldest_is_refused(major: int) -> None:
    with pytest.raises(UnsupportedServer) as caught:
        await migrate(OldServer(major), "public")  # type: ignore[arg-type]
    assert (caught.value.version, caught.value.oldest) == (f"{major}.9", OLDEST_SERVER)


def test_the_migrations_are_numbered_from_1_and_have_distinct_checksums() -> None:
    known = known_migrations()
    assert [migration.version for migration in known] == list(range(1, len(known) + 1))
    assert len({migration.checksum for migration in known}) == len(known)
    assert all(migration.statements for migration in known)
