"""The private call by which the driver takes rows as bytes: these tests say when it changes."""

import os
import struct
from typing import Any

import asyncpg
import pytest

from chem_persistence import PgEventStore, PoolProvider, StepSignal, build_pool
from chem_persistence.postgres.schema.row_types import RowTypes
from tests.support.flows.flows import new_flow_id

RETRIES = struct.pack("!5i", 1, 0, 0, 1, 1) + struct.pack(
    "!2i2i16s2iq2i1s", 53, 3, 2950, 16, bytes(16), 20, 8, 7, 25, 1, b"a"
)
TAKEN = """
    SELECT unnest(proargtypes)::oid AS type FROM pg_proc WHERE proname = 'append_rows' LIMIT 5
"""
COUNT = "SELECT sum(retry.retry_count) FROM unnest($1::append_retry[]) AS retry"


async def test_the_driver_takes_an_array_of_rows_as_bytes(database_url: str) -> None:
    connection: Any = await asyncpg.connect(database_url)
    with pytest.raises(asyncpg.DataError):
        await connection.fetchval(COUNT, RETRIES)
    types = RowTypes(connection._protocol)
    await types.ask(connection)
    assert types.are_known
    await connection.reload_schema_state()  # forgets neither these types nor others of its own
    assert await connection.fetchval(COUNT, RETRIES) == 7
    await connection.close()


async def test_the_types_are_those_that_the_function_takes(database_url: str) -> None:
    """Also in a session whose temporary tables come first, as they do behind a pooler."""
    connection: Any = await asyncpg.connect(database_url)
    taken = [row["type"] for row in await connection.fetch(TAKEN)]
    await connection.execute("CREATE TEMP TABLE append_flow (version integer)")
    types = RowTypes(connection._protocol)
    await types.ask(connection)
    assert len(taken) == 5
    assert types.numbers == taken
    await connection.execute("SET search_path = pg_temp")
    await types.ask(connection)
    assert not types.are_known  # so that appends are sent as documents
    await connection.close()


async def test_a_new_connection_asks_one_question_before_its_first_append(
    database_url: str,
) -> None:
    """On a cluster the writers of a store ask another one: whether the log is distributed."""
    on_citus = bool(os.environ.get("CHEM_TEST_CITUS"))
    async with await build_pool(database_url, max_size=1) as pool:
        store = PgEventStore(PoolProvider(pool))
        await store.append_kind(new_flow_id(), StepSignal(0, "a", "next"))
        await store.aclose()
        async with pool.acquire() as connection:
            sent = connection._protocol.queries_count  # type: ignore[attr-defined]
    question, head, append = 1 + on_citus, 1, 1
    assert sent == question + head + append


async def test_the_driver_asks_the_server_nothing_about_types(
    provider: PoolProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its query takes 16 to 36 ms on each connection."""

    async def refuse(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(asyncpg.Connection, "_introspect_types", refuse)
    store = PgEventStore(provider)
    await store.append_kind(new_flow_id(), StepSignal(0, "a", "next"))
    await store.aclose()
    ids = [new_flow_id(), new_flow_id()]
    async with provider.acquire() as lent:
        connection: Any = lent
        for arrays in ("SELECT $1::uuid[] || $2::uuid[]", "SELECT $2::uuid[] || $1::uuid[]"):
            assert await connection.fetchval(arrays, ids, []) == ids
            await connection.row_types.ask(connection)  # the driver forgets other types
