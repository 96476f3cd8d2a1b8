"""An import stores the events of many flows by one statement, and finds who was there first."""

import asyncio
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
from tests.support.leases.lender import Lender
from tests.support.servers.waiting import until_blocked


async def bundle_of(flows: int, path: Path) -> list[UUID]:
    """Write a bundle of flows that share an artifact; return their ids."""
    store, flow_ids = InMemoryEventStore(), [new_flow_id() for _ in range(flows)]
    shared = Artifact.from_payload(kind="Molecule", payload={"smiles": "CCO"})
    for flow_id in flow_ids:
        begin = FlowInitialized("d" * 64, 0, shared.hash)
        await store.append_kinds(flow_id, [begin, FlowCompleted("f" * 64)], artifacts=[shared])
    await export_flows(store, flow_ids, path)
    return flow_ids


async def test_more_flows_need_no_more_statements_to_store(
    database_url: str, tmp_path: Path
) -> None:
    counts = []
    for flows in (2, 40):
        flow_ids = await bundle_of(flows, tmp_path / f"{flows}.zip")
        sent = list[asyncpg.connection.LoggedQuery]()
        connection = await asyncpg.connect(database_url)
        connection.add_query_logger(sent.append)
        imported = await import_bundle(PgEventStore(Lender(connection)), tmp_path / f"{flows}.zip")
        await connection.close()
        assert sorted(imported.new_flows) == sorted(flow_ids)
        begun = next(n for n, each in enumerate(sent) if each.query.startswith("BEGIN"))
        counts.append(len(sent) - begun)
    assert counts[0] == counts[1]


async def test_a_flow_that_another_writer_begins_meanwhile_is_named(
    provider: PoolProvider, pool: "asyncpg.Pool[asyncpg.Record]", tmp_path: Path
) -> None:
    """The import waits for that writer's key; nothing of it is stored then."""
    *others, taken = await bundle_of(12, tmp_path / "run.zip")
    store = PgEventStore(provider)
    async with store.transaction() as transaction:
        await transaction.append_kind(taken, initialized(), expected_version=0)
        importing = asyncio.create_task(import_bundle(store, tmp_path / "run.zip"))
        await until_blocked(pool)
        assert not importing.done()
    with pytest.raises(ConcurrencyConflict) as refused:
        await importing
    assert refused.value.flow_id == taken
    assert [await store.list(flow_id) for flow_id in others] == [[]] * len(others)
