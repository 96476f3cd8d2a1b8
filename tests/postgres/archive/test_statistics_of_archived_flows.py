"""What is counted stays counted when its flow is archived, and is not counted again."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TypeAlias

import asyncpg
import pytest

from chem_persistence import (
    Artifact,
    PgEventStore,
    PgReadModels,
    PoolProvider,
    Statistics,
    StepFinished,
    StepStarted,
    archive_flows,
    build_pool,
    import_bundle,
    seal_flow,
)
from tests.support.archiving import archive, ended_flow, sealed, sealed_flow
from tests.support.flows.flows import new_flow_id
from tests.support.servers.waiting import until_blocked

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"

VALUE = Artifact.from_payload(kind="Value", payload={"n": 1.0})
STEP = (StepStarted(0, "acquire"), StepFinished(0, "acquire", (), "f" * 64))


@pytest.fixture
async def administration(admin_url: str) -> AsyncIterator[Pool]:
    """Yield a pool of connections that may archive and refresh."""
    async with await build_pool(admin_url) as pool:
        yield pool


@pytest.fixture
def store(administration: Pool) -> PgEventStore:
    return PgEventStore(PoolProvider(administration))


@pytest.fixture
def models(administration: Pool) -> PgReadModels:
    return PgReadModels(PoolProvider(administration))


def counted(statistics: Statistics) -> tuple[int, int, int]:
    """Return how many events, finished steps and artifacts were counted."""
    return (
        sum(hour.events for hour in statistics.hours),
        sum(step.finished for step in statistics.steps),
        sum(kind.artifacts for kind in statistics.artifacts),
    )


@pytest.mark.parametrize("counted_before", [False, True])
async def test_an_archived_flow_is_counted_once_however_often_it_comes_back(
    store: PgEventStore, models: PgReadModels, tmp_path: Path, *, counted_before: bool
) -> None:
    flow_id = await ended_flow(store, [VALUE], STEP)
    await seal_flow(store, flow_id)
    if counted_before:
        await models.refresh()
    for _ in range(2):
        bundle = await archive_flows(store, [flow_id], tmp_path, actor="Ada", patience=0)
        await models.refresh()
        assert counted(await models.statistics()) == (6, 1, 1)
        await import_bundle(store, bundle.path)
        await models.refresh()
        assert counted(await models.statistics()) == (6, 1, 1)
    await ended_flow(store, [Artifact.from_payload(kind="Value", payload={"n": 2.0})], STEP)
    await models.refresh()
    assert counted(await models.statistics()) == (11, 2, 2)


async def test_a_flow_of_which_only_the_beginning_was_counted_is_counted_whole(
    store: PgEventStore, models: PgReadModels, owner: Connection
) -> None:
    flow_id = new_flow_id()
    await store.append_kinds(flow_id, STEP[:1])
    await models.refresh()
    await store.append_kinds(flow_id, STEP[1:], artifacts=[VALUE])
    await ended_flow(store)
    from chem_persistence import FlowCompleted

    await store.append_kind(flow_id, FlowCompleted("f" * 64))
    await archive(owner, await sealed(store, owner, flow_id))
    assert counted(await models.statistics()) == (4, 1, 1)
    await models.refresh()
    assert counted(await models.statistics()) == (7, 1, 1)


async def test_a_flow_that_was_archived_before_statistics_could_count_it_is_counted_when_it_is_back(
    store: PgEventStore, models: PgReadModels, owner: Connection, tmp_path: Path
) -> None:
    flow_id = await ended_flow(store, [VALUE], STEP)
    bundle = await archive_flows(store, [flow_id], tmp_path, actor="Ada", patience=0)
    async with owner.transaction():  # as the register and the figures were then
        await owner.execute("SET LOCAL session_replication_role = replica")
        await owner.execute("UPDATE archived_flows SET is_counted = false")
        await owner.execute("UPDATE statistics_refresh SET seq = -1")
    await import_bundle(store, bundle.path)
    await models.refresh()
    assert counted(await models.statistics()) == (6, 1, 1)


@pytest.mark.parametrize("end", ["commit", "rollback"])
async def test_a_refresh_waits_for_an_archive_that_counts(
    administration: Pool, store: PgEventStore, models: PgReadModels, owner: Connection, end: str
) -> None:
    flow = await sealed_flow(store, owner, [VALUE])
    async with administration.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        await archive(connection, flow)
        refreshing = asyncio.create_task(models.refresh())
        await until_blocked(owner)
        await (transaction.commit() if end == "commit" else transaction.rollback())
    await refreshing
    assert counted(await models.statistics()) == (4, 0, 1)
