"""Sessions that are not as the library left them: ended, emptied, with tables of their own."""

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest

from chem_persistence import (
    Artifact,
    MigrationError,
    PgEventStore,
    PgFlowRepository,
    PoolProvider,
    StepFinished,
    StepStarted,
    StoreUnavailable,
    build_pool,
)
from tests.support.flows.flows import DEFINITION, initialized, new_flow_id
from tests.support.servers.server import TestServer


@pytest.fixture
async def single(database_url: str) -> "AsyncIterator[asyncpg.Pool[asyncpg.Record]]":
    """Yield a pool of one connection, so that every call uses the same session."""
    async with await build_pool(database_url, max_size=1) as pool:
        yield pool


@pytest.mark.parametrize(
    "command", ["DISCARD ALL", "DEALLOCATE ALL", "DISCARD PLANS; DEALLOCATE ALL"]
)
async def test_a_session_without_its_prepared_statements_is_replaced(
    single: "asyncpg.Pool[asyncpg.Record]", command: str
) -> None:
    store, flow_id = PgEventStore(PoolProvider(single)), new_flow_id()
    first = await store.append_kind(flow_id, initialized())
    await store.list(flow_id)
    await single.execute(command)
    second = await store.append_kind(flow_id, StepStarted(0, "acquire"))
    await single.execute(command)
    assert await store.list(flow_id) == [first, second]
    await single.execute(command)
    loaded = await PgFlowRepository(PoolProvider(single)).load(flow_id, None, DEFINITION)
    assert loaded.version == 2


async def test_what_a_program_sets_in_a_session_does_not_stay_in_it(
    single: "asyncpg.Pool[asyncpg.Record]",
) -> None:
    """A read of the store saves the reset; that of the program's own use is made all the same."""
    store, flow_id = PgEventStore(PoolProvider(single)), new_flow_id()
    async with store.transaction() as tx:
        await tx.append_kind(flow_id, initialized())
        await tx.connection.execute("SET application_name = 'changed'")
        assert len(await tx.list(flow_id)) == 1
    assert await single.fetchval("SHOW application_name") != "changed"
    await store.list(flow_id)
    async with single.acquire() as connection:
        await connection.execute("SET application_name = 'changed'")
    await store.list(flow_id)
    assert await single.fetchval("SHOW application_name") != "changed"


async def test_no_session_has_its_plans_compiled(
    single: "asyncpg.Pool[asyncpg.Record]",
) -> None:
    async with single.acquire() as connection:
        assert await connection.fetchval("SHOW jit") == "off"
        await connection.execute("SET jit = on")
    assert await single.fetchval("SHOW jit") == "off"


async def test_a_read_of_the_store_is_one_round_trip(
    single: "asyncpg.Pool[asyncpg.Record]",
) -> None:
    store, flow_id = PgEventStore(PoolProvider(single)), new_flow_id()
    await store.append_kind(flow_id, initialized())
    await store.list(flow_id)
    async with single.acquire() as connection:
        before = connection._protocol.queries_count  # type: ignore[attr-defined]
    await store.list(flow_id)
    async with single.acquire() as connection:
        reset = 1  # after the block above
        count = connection._protocol.queries_count  # type: ignore[attr-defined]
    assert count - before == 1 + reset


@pytest.mark.parametrize("command", ["DISCARD ALL", "DEALLOCATE ALL"])
async def test_10f_a_session_that_failed_a_transaction_is_replaced(
    single: "asyncpg.Pool[asyncpg.Record]", command: str
) -> None:
    store, flow_id = PgEventStore(PoolProvider(single)), new_flow_id()

    async def append(version: int) -> None:
        async with store.transaction() as tx:
            assert len(await tx.list(flow_id)) == version
            await tx.append_kind(flow_id, StepStarted(0, "acquire"), expected_version=version)

    await append(0)
    await single.execute(command)
    with pytest.raises(StoreUnavailable) as caught:  # a transaction's block is not retried
        await append(1)
    assert caught.value.sqlstate == "26000"
    await append(1)
    assert len(await store.list(flow_id)) == 2


@pytest.mark.parametrize(
    "table", ["event_log", "workflow_step_artifacts", "workflow_step_executions"]
)
async def test_a_temporary_table_does_not_hide_a_table_of_the_log(
    single: "asyncpg.Pool[asyncpg.Record]", table: str
) -> None:
    store, flow_id = PgEventStore(PoolProvider(single)), new_flow_id()
    await single.execute(f"CREATE TEMP TABLE {table} (LIKE public.{table} INCLUDING ALL)")
    artifact = Artifact.from_payload(kind="Molecule", payload={"name": "benzene"})
    finished = StepFinished(0, "acquire", (artifact.hash,), "f" * 64)
    await store.append_kinds(flow_id, [initialized(), finished], artifacts=[artifact])
    assert await single.fetchval(f"SELECT count(*) FROM pg_temp.{table}") == 0
    assert await single.fetchval(f"SELECT count(*) FROM public.{table}") > 0
    assert await store.get_artifact(artifact.hash) == artifact
    assert len(await store.list(flow_id)) == 2


@pytest.mark.parametrize(
    ("setting", "sqlstate", "word"),
    [
        ("idle_in_transaction_session_timeout", "25P03", "idle-in-transaction timeout"),
        ("transaction_timeout", "25P04", "transaction timeout"),
    ],
)
async def test_a_transaction_that_the_server_ended_says_the_servers_word(
    single: "asyncpg.Pool[asyncpg.Record]",
    pool: "asyncpg.Pool[asyncpg.Record]",
    setting: str,
    sqlstate: str,
    word: str,
) -> None:
    if not await pool.fetchval("SELECT count(*) FROM pg_settings WHERE name = $1", setting):
        pytest.skip("the server has no such setting")
    store = PgEventStore(PoolProvider(single))

    async def append() -> None:
        async with store.transaction() as tx:
            await tx.connection.execute(f"SET LOCAL {setting} = '1ms'")
            await until_no_transaction(pool)
            await tx.append_kind(new_flow_id(), initialized())

    with pytest.raises(StoreUnavailable, match=word) as caught:
        await append()
    assert caught.value.sqlstate == sqlstate


async def test_a_transaction_whose_session_was_terminated_says_the_servers_word(
    single: "asyncpg.Pool[asyncpg.Record]", pool: "asyncpg.Pool[asyncpg.Record]"
) -> None:
    store = PgEventStore(PoolProvider(single))

    async def append() -> None:
        async with store.transaction() as tx:
            (row,) = await tx.connection.fetch("SELECT pg_backend_pid() AS pid")
            await pool.execute("SELECT pg_terminate_backend($1::integer)", row["pid"])
            await until_no_transaction(pool)
            await tx.append_kind(new_flow_id(), initialized())

    with pytest.raises(StoreUnavailable, match="terminating connection") as caught:
        await append()
    assert caught.value.sqlstate == "57P01"


async def until_no_transaction(pool: "asyncpg.Pool[asyncpg.Record]") -> None:
    """Wait until the server has ended the session of the transaction."""
    query = """SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
        AND pid <> pg_backend_pid() AND state LIKE 'idle in transaction%'"""
    async with asyncio.timeout(60):
        while await pool.fetchval(query):
            pass


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII", "EUC_JP"])
async def test_a_database_that_is_not_utf_8_is_refused(server: TestServer, encoding: str) -> None:
    async with server.database(template="template0") as url:
        name = f"in_{encoding.lower()}"
        await server.administrate(
            f"CREATE DATABASE {name} ENCODING '{encoding}' LOCALE 'C' TEMPLATE template0"
        )
        try:
            with pytest.raises(MigrationError, match=encoding):
                await build_pool(url.replace(await current_database(url), name))
        finally:
            await server.administrate(f"DROP DATABASE {name}")


async def current_database(url: str) -> str:
    connection = await asyncpg.connect(url)
    try:
        return str(await connection.fetchval("SELECT current_database()"))
    finally:
        await connection.close()
