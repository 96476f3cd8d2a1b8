"""An import stores the events of many flows by one statement, and finds who was there first."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import UUID

import asyncpg
import pytest

from chem_persistence import (
    Artifact,
    ConcurrencyConflict,
    FlowCompleted,
    FlowInitialized,
    InMemoryEventStore,
    PgEventStore,
    PoolProvider,
    export_flows,
    import_bundle,
)
from tests.support.flows.flows import initialized, new_flow_id

BLOCKED = """
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND wait_event_type = 'Lock'
"""


async def bundle_of(flows: int, path: Path) -> list[UUID]:
    """Write a bundle of flows that share an artifact; return their ids."""
    store, flow_ids = InMemoryEventStore(), [new_flow_id() for _ in range(flows)]
    shared = Artifact.from_payload(kind="Molecule", payload={"smiles": "CCO"})
    for flow_id in flow_ids:
        begin = FlowInitialized("d" * 64, 0, shared.hash)
        await store.append_kinds(flow_id, [begin, FlowCompleted("f" * 64)], artifacts=[shared])
    await export_flows(store, flow_ids, path)
    return flow_ids


class OneConnection:
    """A provider that lends one connection, and keeps the texts of its statements."""

    def __init__(self, connection: "asyncpg.Connection[asyncpg.Record]") -> None:
        self.sent: list[str] = []
        self._connection = connection
        connection.add_query_logger(self._keep)

    async def _keep(self, logged: asyncpg.connection.LoggedQuery) -> None:
        self.sent.append(logged.query)

    @asynccontextmanager
    async def acquire(self) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
        yield self._connection


async def test_more_flows_need_no_more_statements_to_store(
    database_url: str, tmp_path: Path
) -> None:
    counts = []
    for flows in (2, 40):
        flow_ids = await bundle_of(flows, tmp_path / f"{flows}.zip")
        provider = OneConnection(await asyncpg.connect(database_url))
        imported = await import_bundle(PgEventStore(provider), tmp_path / f"{flows}.zip")
        await provider._connection.close()
        assert sorted(imported.new_flows) == sorted(flow_ids)
        begun = next(place for place, text in enumerate(provider.sent) if text.startswith("BEGIN"))
        counts.append(len(provider.sent) - begun)
    assert counts[0] == counts[1]


async def test_a_flow_that_another_writer_begins_meanwhile_is_named(
    provider: PoolProvider, tmp_path: Path
) -> None:
    """The import waits for that writer's key; nothing of it is stored then."""
    *others, taken = await bundle_of(12, tmp_path / "run.zip")
    store = PgEventStore(provider)
    async with provider.acquire() as connection, store.transaction() as transaction:
        await transaction.append_kind(taken, initialized(), expected_version=0)
        importing = asyncio.create_task(import_bundle(store, tmp_path / "run.zip"))
        while not (await connection.fetch(BLOCKED))[0]["count"]:
            assert not importing.done()
    with pytest.raises(ConcurrencyConflict) as refused:
        await importing
    assert refused.value.flow_id == taken
    assert [await store.list(flow_id) for flow_id in others] == [[]] * len(others)
