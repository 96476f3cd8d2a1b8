"""What holds an archive on PostgreSQL; tests/contract/archive has what every store does."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeAlias
from uuid import UUID

import asyncpg
import pytest

from chem_persistence import (
    ArchivedBundle,
    ArchiveHeld,
    Artifact,
    FlowCompleted,
    FlowEvent,
    FlowInitialized,
    FlowParent,
    NotArchived,
    PgEventStore,
    PoolProvider,
    StepWaits,
    StoreError,
    archive_ended,
    archive_flows,
    build_pool,
    import_bundle,
)
from chem_persistence.postgres.connection.pool import open_pool
from chem_persistence.store.leasing.children import CHILDREN, child_id
from tests.support.archiving import LATE, ended_flow
from tests.support.flows.flows import DEFINITION, initialized, new_flow_id
from tests.support.servers.roles import as_user

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"

VALUE = Artifact.from_payload(kind="Value", payload={"n": 1.0})


@pytest.fixture
async def store(admin_url: str) -> AsyncIterator[PgEventStore]:
    """Yield a store on connections that may archive."""
    async with await build_pool(admin_url) as pool:
        yield PgEventStore(PoolProvider(pool))


async def archived(store: PgEventStore, directory: Path, *flow_ids: UUID) -> ArchivedBundle:
    return await archive_flows(store, flow_ids, directory, actor="Ada", patience=0)


async def family(store: PgEventStore) -> tuple[UUID, UUID]:
    """Store a flow that ran a child; return both."""
    parent = new_flow_id()
    child = child_id(parent, 0, 0)
    begin = FlowInitialized(DEFINITION.definition_hash, 3, parent=FlowParent(parent, 0, 0))
    await store.append_kinds(child, [begin, LATE, FlowCompleted("f" * 64)], artifacts=[VALUE])
    waits = StepWaits(0, "acquire", None, {CHILDREN: 1})
    await store.append_kinds(parent, [initialized(), waits, FlowCompleted("f" * 64)])
    return parent, child


async def test_a_consumer_that_lags_holds_the_archive_and_is_named(
    store: PgEventStore, owner: Connection, tmp_path: Path
) -> None:
    flow_id = await ended_flow(store)
    await owner.execute("INSERT INTO feed_consumers (name, part, parts, seq) VALUES ('m', 0, 1, 0)")
    with pytest.raises(ArchiveHeld, match="consumer m has not consumed"):
        await archived(store, tmp_path, flow_id)
    assert list(tmp_path.iterdir()) == []
    archiving = asyncio.create_task(
        archive_flows(store, [flow_id], tmp_path, actor="Ada", patience=60)
    )
    await owner.execute("UPDATE feed_consumers SET passed_seq = 1000")
    assert (await archiving).flows == (flow_id,)


async def test_a_consumer_passes_over_what_it_had_seen_before_the_archive(
    store: PgEventStore, tmp_path: Path
) -> None:
    flow_id = await ended_flow(store)
    seen: list[FlowEvent] = []

    async def take(events: Sequence[FlowEvent], _: object) -> None:
        seen.extend(events)

    consumer = store.consumer("mirror", parts=2)
    await consumer.run_to_end(take)
    assert len(seen) == 3
    archiving = asyncio.create_task(
        archive_flows(store, [flow_id], tmp_path, actor="Ada", patience=60)
    )
    while not archiving.done():
        await consumer.run_to_end(take)
        await asyncio.sleep(0)
    assert len(seen) == 4
    await import_bundle(store, (await archiving).path)
    other = await ended_flow(store)
    await consumer.run_to_end(take)
    assert [event.flow_id for event in seen[4:]] == [other] * 3
    seen.clear()
    await consumer.reset(0)
    await consumer.run_to_end(take)
    assert [event.flow_id for event in seen] == [other] * 3, "a reset makes it no other consumer"
    seen.clear()
    await store.consumer("another", parts=2).run_to_end(take)
    assert {event.flow_id for event in seen} == {flow_id, other}


async def test_flows_of_an_age_leave_in_batches_and_one_that_cannot_stays(
    store: PgEventStore, owner: Connection, tmp_path: Path
) -> None:
    flow_ids = [await ended_flow(store, [VALUE]) for _ in range(5)]
    parent, child = await family(store)
    late = await ended_flow(store)
    last = (await store.list(late))[-1].ts
    await owner.execute(
        "INSERT INTO feed_parked (name, flow_id, seq, event_id, error) "
        "VALUES ('m', $1, 1, gen_random_uuid(), 'poison')",
        flow_ids[0],
    )
    ended = archive_ended(store, last, tmp_path, actor="Ada", batch=4, patience=0)
    outcomes = [outcome async for outcome in ended]
    (held,) = [outcome for outcome in outcomes if isinstance(outcome, NotArchived)]
    assert held.flow_id == flow_ids[0]
    bundles = [outcome for outcome in outcomes if isinstance(outcome, ArchivedBundle)]
    assert {flow_id for bundle in bundles for flow_id in bundle.flows} == {
        *flow_ids[1:],
        parent,
        child,
    }
    assert {bundle.path for bundle in bundles} == set(tmp_path.iterdir())
    left = await owner.fetch("SELECT DISTINCT flow_id FROM event_log")
    assert {row["flow_id"] for row in left} == {flow_ids[0], late}
    nothing = archive_ended(
        store, datetime.now(UTC) - timedelta(days=90), tmp_path, actor="Ada", batch=4
    )
    assert [outcome async for outcome in nothing] == []


async def test_who_may_not_archive_is_told_before_anything_is_sealed(
    store: PgEventStore, owner: Connection, admin_url: str, tmp_path: Path
) -> None:
    flow_id = await ended_flow(store)
    name = f"reader_{new_flow_id().hex}"
    await owner.execute(f"CREATE ROLE {name} LOGIN")
    try:
        async with await open_pool(as_user(admin_url, name, "unused"), max_size=1) as pool:
            with pytest.raises(StoreError, match="may not archive"):
                await archived(PgEventStore(PoolProvider(pool)), tmp_path, flow_id)
    finally:
        await owner.execute(f"DROP ROLE {name}")
    assert len(await store.list(flow_id)) == 3
