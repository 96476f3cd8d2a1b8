"""The private call by which the driver takes rows as bytes: these tests say when it changes."""

import struct
from typing import Any

import asyncpg
import pytest

from chem_persistence import PgEventStore, PoolProvider, StepSignal
from chem_persistence.postgres.schema.row_types import RowTypes
from tests.support.flows.flows import new_flow_id

RETRIES = struct.pack("!5i", 1, 0, 0, 1, 1) + struct.pack(
    "!2i2i16s2iq2i1s", 53, 3, 2950, 16, bytes(16), 20, 8, 7, 25, 1, b"a"
)
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
