"""An append with event ids costs the same in a flow of any length."""

from collections.abc import Awaitable, Callable
from uuid import NAMESPACE_URL, UUID, uuid4, uuid5

import asyncpg
import pytest

from chem_persistence import PgEventStore, PgTransaction, PoolProvider, StepSignal
from chem_persistence.postgres.schema.statements import statement
from tests.support.flows.flows import new_flow_id

READ_EVENTS_BY_GIVEN_ID = statement("events/read_events_by_given_id")
EVENTS = 20_000
MORE = StepSignal(0, "acquire", "more")


@pytest.mark.parametrize("is_analyzed", [True, False])
async def test_the_ids_are_looked_up_and_the_flow_is_not_read(
    provider: PoolProvider, pool: "asyncpg.Pool[asyncpg.Record]", *, is_analyzed: bool
) -> None:
    store, flow_id = PgEventStore(provider), new_flow_id()
    for _ in range(EVENTS // 1_000):
        await store.append_kinds(flow_id, [StepSignal(0, "acquire", "more")] * 1_000)
    first = await store.append_kind(flow_id, StepSignal(0, "acquire", "x"), event_id=uuid4())
    if is_analyzed:
        await pool.execute("ANALYZE event_log")
    async with pool.acquire() as connection:
        await connection.execute("SET plan_cache_mode = force_generic_plan")
        await connection.execute(f"PREPARE found (uuid[], uuid[]) AS {READ_EVENTS_BY_GIVEN_ID}")
        rows = await connection.fetch(
            "EXPLAIN (ANALYZE, BUFFERS, FORMAT TEXT) EXECUTE found "
            f"(ARRAY['{flow_id}']::uuid[], ARRAY['{first.event_id}', '{uuid4()}']::uuid[])"
        )
        plan = "\n".join(row[0] for row in rows)
        await connection.execute("DEALLOCATE found")
    assert "event_log_given_id_idx" in plan, plan
    assert "Seq Scan" not in plan


@pytest.mark.parametrize(
    "event_id",
    [
        uuid4(),
        uuid5(NAMESPACE_URL, "molecule"),
        UUID("01234567-89ab-7cde-8f01-23456789abcd"),
        UUID("01234567-89ab-7cde-8f01-23456789a400"),  # as the library makes them
    ],
    ids=["4", "5", "7", "own"],
)
async def test_a_repeated_append_is_recognised_at_any_distance(
    provider: PoolProvider, event_id: UUID
) -> None:
    store, flow_id = PgEventStore(provider), new_flow_id()
    first = await store.append_kind(flow_id, StepSignal(0, "acquire", "x"), event_id=event_id)
    await store.append_kinds(flow_id, [StepSignal(0, "acquire", "more")] * 1_000)
    for expected in (None, 0, 7, 1_001):
        again = await store.append_kind(
            flow_id, StepSignal(0, "acquire", "x"), event_id=event_id, expected_version=expected
        )
        assert again == first


ROWS_READ = """
    SELECT seq_tup_read + idx_tup_fetch FROM pg_stat_xact_user_tables
    WHERE relid = 'event_log'::regclass
"""
FIRST = uuid4()
APPENDS: dict[str, Callable[[PgTransaction, UUID], Awaitable[object]]] = {
    "one": lambda tx, flow_id: tx.append_kind(flow_id, MORE, event_id=uuid4()),
    "many": lambda tx, flow_id: tx.append_kinds(
        flow_id, [MORE] * 3, event_ids=[uuid4() for _ in range(3)]
    ),
    "expected": lambda tx, flow_id: tx.append_kind(
        flow_id, MORE, event_id=uuid5(NAMESPACE_URL, f"{flow_id}"), expected_version=20_001
    ),
    "repeated": lambda tx, flow_id: tx.append_kind(
        flow_id, StepSignal(0, "acquire", "x"), event_id=FIRST
    ),
}


@pytest.mark.parametrize("name", APPENDS)
async def test_10a_an_append_with_event_ids_reads_few_rows_of_a_long_flow(
    provider: PoolProvider, pool: "asyncpg.Pool[asyncpg.Record]", name: str
) -> None:
    writer, flow_id = PgEventStore(provider), new_flow_id()
    await writer.append_kind(flow_id, StepSignal(0, "acquire", "x"), event_id=FIRST)
    for _ in range(EVENTS // 1_000):
        await writer.append_kinds(flow_id, [MORE] * 1_000)
    await pool.execute("ANALYZE event_log")
    store = PgEventStore(provider)  # knows nothing of the flow
    async with store.transaction() as tx:
        ((before,),) = await tx.connection.fetch(ROWS_READ)  # of transactions not yet reported
        await APPENDS[name](tx, flow_id)
        ((rows_read,),) = await tx.connection.fetch(ROWS_READ)
    assert rows_read - before <= 30
