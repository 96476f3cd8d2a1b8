"""Step rows rebuilt from the log equal those that appends kept, while appends continue."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chem_persistence import (
    FlowEventKind,
    PgEventStore,
    PgReadModels,
    PoolProvider,
    Rebuild,
    RetryScheduled,
    StepError,
    StepFailed,
    StepFinished,
    StepStarted,
    UnreadableEvent,
    build_pool,
    embedded_postgres,
)
from tests.support.flows.flows import initialized, new_flow_id
from tests.support.flows.histories import batched, legal_kinds
from tests.support.flows.long_log import write_long_log
from tests.support.servers.backends import Backend

if TYPE_CHECKING:
    import asyncpg

    Pool = asyncpg.Pool[asyncpg.Record]

READ_ROWS = "SELECT * FROM workflow_step_executions ORDER BY flow_id, step_index"
FLOW: list[FlowEventKind] = [
    initialized(),
    StepStarted(0, "acquire"),
    StepFailed(0, "acquire", StepError("ValueError", "no"), "f" * 64),
    RetryScheduled("acquire", 1, "again"),
    StepStarted(0, "acquire"),
    StepFinished(0, "acquire", ("a" * 64,), "f" * 64),
    StepStarted(1, "compute"),
]
DAMAGES = {
    "all rows are gone": "DELETE FROM workflow_step_executions",
    "a row is gone": "DELETE FROM workflow_step_executions WHERE step_index = 0",
    "another status": "UPDATE workflow_step_executions SET status = 'failed'",
    "other attempts": "UPDATE workflow_step_executions SET attempts = attempts + 1",
    "another retry count": "UPDATE workflow_step_executions SET retry_count = 7",
    "another fingerprint": "UPDATE workflow_step_executions SET fingerprint = NULL",
    "another time": (
        "UPDATE workflow_step_executions SET finished_at = started_at - interval '1 microsecond'"
    ),
    "another error": (
        "UPDATE workflow_step_executions "
        """SET error = '{"error_class": "E", "message": ""}'"""
    ),
    "no error at all": "UPDATE workflow_step_executions SET error = '17'",
    "another step id": "UPDATE workflow_step_executions SET step_id = 'other'",
    "a row too many": "INSERT INTO workflow_step_executions "
    "SELECT flow_id, 7, 'x', 'pending', 0, 0 FROM "
    "workflow_step_executions WHERE step_index = 0",
    "rows of no flow": "INSERT INTO workflow_step_executions "
    "SELECT gen_random_uuid(), 0, 'x', 'running', 1, 0 "
    "FROM generate_series(1, 3)",
}


async def rows(pool: "Pool") -> list[Any]:
    return await pool.fetch(READ_ROWS)


async def write_flows(provider: PoolProvider, flows: int) -> list[UUID]:
    store, flow_ids = PgEventStore(provider), [new_flow_id() for _ in range(flows)]
    for flow_id in flow_ids:
        await store.append_kinds(flow_id, FLOW, expected_version=0)
    await store.aclose()
    return flow_ids


@pytest.mark.superuser
@pytest.mark.parametrize("damage", DAMAGES)
async def test_what_was_damaged_is_as_it_was(
    pool: "Pool", provider: PoolProvider, damage: str
) -> None:
    await write_flows(provider, 3)
    before = await rows(pool)
    await pool.execute(DAMAGES[damage])
    assert await rows(pool) != before
    rebuilt = await PgReadModels(provider).rebuild()
    assert await rows(pool) == before
    assert rebuilt == Rebuild(flows=3, events=21, rebuilt=3)


async def test_what_is_sound_is_only_read(pool: "Pool", provider: PoolProvider) -> None:
    await write_flows(provider, 3)
    written = "SELECT xmin, ctid FROM workflow_step_executions"
    before = await pool.fetch(written)
    assert (await PgReadModels(provider).rebuild()).rebuilt == 0
    assert await pool.fetch(written) == before


async def test_progress_is_told_page_by_page(provider: PoolProvider) -> None:
    store = PgEventStore(provider)
    await write_long_log(store, 12_000)
    await store.aclose()
    told: list[Rebuild] = []
    done = await PgReadModels(provider).rebuild(on_progress=told.append)
    assert [progress.events for progress in told] == [5_000, 10_000, 12_000, 12_000]
    assert [progress.flows for progress in told] == [4, 9, 11, 12]
    assert told[-1] == done


@pytest.mark.superuser
async def test_an_event_that_cannot_be_read_stops_a_rebuild(
    pool: "Pool", provider: PoolProvider
) -> None:
    (flow_id,) = await write_flows(provider, 1)
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute("SET LOCAL session_replication_role = replica")
        await connection.execute(
            """UPDATE event_log SET payload = payload - 'step_id' WHERE version = 4"""
        )
    with pytest.raises(UnreadableEvent) as caught:
        await PgReadModels(provider).rebuild()
    assert (caught.value.flow_id, caught.value.version) == (flow_id, 4)


MORE_ATTEMPTS = """
    UPDATE workflow_step_executions SET attempts = attempts + 100
    WHERE flow_id = $1 AND step_index % 3 = 1
"""
FEWER_ROWS = "DELETE FROM workflow_step_executions WHERE flow_id = $1 AND step_index % 3 = 2"


@pytest.mark.superuser
async def test_appends_go_on_while_rows_are_rebuilt(pool: "Pool", provider: PoolProvider) -> None:
    """Every row is damaged and rebuilt repeatedly while its flow continues.

    The damage is done flow by flow: a statement that locks rows of several flows in another order
    than a batch of appends would sometimes be the victim of a deadlock.
    """
    models, store = PgReadModels(provider), PgEventStore(provider)
    flow_ids = await write_flows(provider, 8)
    steps = 40

    async def go_on(flow_id: UUID) -> None:
        version = len(FLOW)
        for index in range(1, steps):
            for kind in (
                StepFailed(index, f"s{index}", StepError("E", "e"), "f" * 64),
                RetryScheduled(f"s{index}", 1, "again"),
                StepStarted(index, f"s{index}"),
                StepFinished(index, f"s{index}", (), "f" * 64),
                StepStarted(index + 1, f"s{index + 1}"),
            ):
                await store.append_kind(flow_id, kind, expected_version=version)
                version += 1

    writing = asyncio.gather(*map(go_on, flow_ids))
    rebuilt = 0
    while not writing.done():
        for flow_id in flow_ids:
            await pool.execute(MORE_ATTEMPTS, flow_id)
            await pool.execute(FEWER_ROWS, flow_id)
        rebuilt += (await models.rebuild()).rebuilt
    await writing
    await store.aclose()
    await models.rebuild()
    online = await rows(pool)
    await pool.execute("DELETE FROM workflow_step_executions")
    await models.rebuild()
    assert rebuilt > 0
    assert online == await rows(pool)
    assert (len(online), {row["attempts"] for row in online if row["step_index"] > 1}) == (
        8 * (steps + 1),
        {1, 2},
    )


BOUNDED = settings(
    deadline=None,
    derandomize=True,
    max_examples=30,
    suppress_health_check=list(HealthCheck),
    database=None,
)
FLOWS = st.lists(legal_kinds().flatmap(batched), min_size=1, max_size=3)
COLUMNS = [
    "attempts = attempts + 3",
    "status = 'awaiting_user_input'",
    "retry_count = 9",
    "error = NULL",
    "started_at = NULL",
    "fingerprint = 'x'",
]


@pytest.mark.slow
@pytest.mark.superuser
@BOUNDED
@given(flows=FLOWS, damage=st.sampled_from(COLUMNS) | st.none(), lost=st.integers(0, 3))
async def test_rebuilt_rows_are_those_that_appends_kept(
    postgres: Backend,
    pool: "Pool",
    *,
    flows: list[list[tuple[FlowEventKind, ...]]],
    damage: str | None,
    lost: int,
) -> None:
    for batches in flows:
        flow_id = new_flow_id()
        for batch in batches:
            await postgres.store.append_kinds(flow_id, batch)
    kept = await rows(pool)
    if damage is not None:
        await pool.execute(f"UPDATE workflow_step_executions SET {damage}")
    await pool.execute("DELETE FROM workflow_step_executions WHERE step_index >= $1", lost)
    await PgReadModels(PoolProvider(pool)).rebuild()
    assert await rows(pool) == kept


@pytest.mark.slow
async def test_a_rebuild_survives_its_process(tmp_path: Path) -> None:
    """What was rebuilt before a stop stays, and the next rebuild does the rest."""
    async with (
        embedded_postgres(tmp_path / "server") as url,
        await build_pool(url, max_size=4) as pool,
    ):
        provider = PoolProvider(pool)
        store = PgEventStore(provider)
        await write_long_log(store, 12_000)
        await store.aclose()
        kept = await rows(pool)
        await pool.execute("DELETE FROM workflow_step_executions")
        models = PgReadModels(provider)

        def stop(_: Rebuild) -> None:
            raise KeyError

        with pytest.raises(KeyError):
            await models.rebuild(on_progress=stop)
        assert len(await rows(pool)) == len(kept) * 4 // 12
        assert (await models.rebuild()).rebuilt == 8
        assert await rows(pool) == kept
