"""A database that a test had is as a new one for the next test, or the next test has another."""

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest

from chem_persistence import Artifact, PgEventStore, PoolProvider, build_pool
from tests.support.flows.flows import initialized, new_flow_id
from tests.support.lending import Database, Lender
from tests.support.servers.server import TEMPLATE, TestServer

ROWS = """
    SELECT (SELECT count(*) FROM event_log) + (SELECT count(*) FROM workflow_step_artifacts)
        + (SELECT count(*) FROM flow_snapshots)
"""
NEXT_SEQ = "SELECT nextval(pg_get_serial_sequence('event_log', 'seq'))"

CHANGES = [
    "CREATE TABLE more (number integer)",
    "CREATE SCHEMA lab",
    "CREATE FUNCTION public.one() RETURNS integer LANGUAGE sql AS 'SELECT 1'",
    "CREATE PUBLICATION everything FOR ALL TABLES",
    "ALTER TABLE event_log DISABLE TRIGGER event_log_append_only",
    "ALTER TABLE flow_snapshots ALTER COLUMN state DROP NOT NULL",
    "ALTER TABLE event_log ADD CONSTRAINT small CHECK (version < 1000)",
    "DROP INDEX event_log_first_event_idx",
    "COMMENT ON TABLE event_log IS 'changed'",
    "GRANT SELECT ON event_log TO PUBLIC",
    "GRANT SELECT (version) ON event_log TO PUBLIC",
    "REVOKE EXECUTE ON FUNCTION pg_notify(text, text) FROM PUBLIC",
    "ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON TABLES TO PUBLIC",
    'ALTER DATABASE "{name}" SET work_mem = 64',
    'GRANT TEMPORARY ON DATABASE "{name}" TO pg_monitor',
    "UPDATE schema_migrations SET applied_at = now() WHERE version = 1",
    "ANALYZE event_log",
    "VACUUM event_log",
    "SELECT lo_create(0)",
]


@pytest.fixture
async def lender(server: TestServer) -> AsyncIterator[Lender]:
    lender = Lender(server.url, TEMPLATE, server.how_to_copy)
    yield lender
    await lender.close()


async def test_rows_sequences_and_sessions_of_a_loan_are_gone_in_the_next(
    lender: Lender, server: TestServer
) -> None:
    is_lent_again = False
    while not is_lent_again:  # at once, unless an ANALYZE by autovacuum changed more than rows
        first = await lender.lend()
        left = await used(server.database_url(first.name))
        await lender.take_back(first)
        second = await lender.lend()
        with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, OSError)):
            await left.fetchval("SELECT 1")
        assert await second.session.fetchval(ROWS) == 0
        assert await second.session.fetchval(NEXT_SEQ) == 1
        await lender.take_back(second)
        is_lent_again = second is first


async def used(url: str) -> "asyncpg.Connection[asyncpg.Record]":
    """Store an event and an artifact; return a session that holds a lock and a temporary table."""
    async with await build_pool(url, max_size=2) as pool:
        store = PgEventStore(PoolProvider(pool))
        artifact = Artifact.from_payload(kind="Value", payload=1)
        await store.append_kind(new_flow_id(), initialized(), artifacts=[artifact])
        await store.aclose()
    left = await asyncpg.connect(url)
    await left.execute("BEGIN; LOCK TABLE event_log; CREATE TEMP TABLE mine (number integer)")
    return left


async def test_a_database_with_more_than_other_rows_is_not_lent_again(
    lender: Lender, server: TestServer
) -> None:
    database = await lender.lend()
    for change in CHANGES:
        connection = await asyncpg.connect(server.database_url(database.name))
        await connection.execute(change.replace("{name}", database.name))
        await connection.close()
        await lender.take_back(database)
        following = await lender.lend()
        assert following.name != database.name, change
        assert not await exists(server, database), change
        database = following
    await lender.take_back(database)


async def test_what_autovacuum_learns_about_catalogs_costs_no_database(
    lender: Lender, server: TestServer
) -> None:
    database = await lender.lend()
    connection = await asyncpg.connect(server.database_url(database.name))
    await connection.execute("ANALYZE pg_attribute, pg_class, pg_proc")
    await connection.close()
    await lender.take_back(database)
    following = await lender.lend()
    assert following.name == database.name
    await lender.take_back(following)


async def test_a_row_that_comes_after_the_end_of_a_test_is_seen_before_the_next_loan(
    lender: Lender, server: TestServer
) -> None:
    database = await lender.lend()
    await lender.take_back(database)
    async with await build_pool(server.database_url(database.name), max_size=1) as pool:
        store = PgEventStore(PoolProvider(pool))
        await store.append_kind(new_flow_id(), initialized())
        await store.aclose()
    following = await lender.lend()
    assert following.name != database.name
    await lender.take_back(following)


async def test_a_session_that_is_there_after_the_end_of_a_test_has_the_database_to_itself(
    lender: Lender, server: TestServer
) -> None:
    database = await lender.lend()
    await lender.take_back(database)
    late = await asyncpg.connect(server.database_url(database.name))
    following = await lender.lend()
    assert following.name != database.name
    late.terminate()
    await lender.take_back(following)


async def test_loans_at_the_same_time_are_of_different_databases(lender: Lender) -> None:
    lent = await asyncio.gather(*(lender.lend() for _ in range(3)))
    assert len({database.name for database in lent}) == 3
    for database in lent:
        await lender.take_back(database)


async def exists(server: TestServer, database: Database) -> bool:
    connection = await asyncpg.connect(server.url)
    found: bool = await connection.fetchval(
        "SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)", database.name
    )
    await connection.close()
    return found
