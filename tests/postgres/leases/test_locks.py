"""What claims and appends lock, and that they do not block or deadlock each other."""

import asyncio
from collections.abc import AsyncIterator
from typing import TypeAlias
from uuid import UUID, uuid4

import asyncpg
import pytest

from chem_persistence import PgLeases, Renewal, StepSignal
from chem_persistence.postgres.append import place_events
from chem_persistence.postgres.append.place_events import Append, FlowHeads, append_batch
from chem_persistence.store.append_request import AppendCall, append_request
from chem_persistence.store.clock import SystemClock
from tests.support.faults.gate import gate
from tests.support.leases.desk import HASH, HOUR, NOW, Desk, postgres_desk
from tests.support.leases.lender import Lender
from tests.support.servers.waiting import until_blocked

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"

SIGNAL = StepSignal(0, "acquire", "cancel")


@pytest.fixture
async def desk(pool: Pool) -> AsyncIterator[Desk]:
    async with postgres_desk(pool) as opened:
        yield opened


async def test_a_claim_locks_only_what_it_claims(pool: Pool) -> None:
    definitions = await due_flows(pool)
    async with pool.acquire() as connection, connection.transaction():
        claims = await PgLeases(Lender(connection)).claim(definitions, uuid4(), 32, HOUR)
        locked = 2_000 - await free_rows(pool)
    assert (len(claims), locked) == (32, 32)
    assert len({claim.definition_hash for claim in claims}) == 32


FIRST_CLAIM = """
    UPDATE flow_runs AS run SET lease = token, holder = worker, due_at = now() + duration
    FROM (
        SELECT due.flow_id FROM unnest(definitions) AS definition (hash)
        CROSS JOIN LATERAL (
            SELECT each.flow_id, each.due_at FROM flow_runs AS each
            WHERE each.definition_hash = definition.hash AND each.due_at <= now()
            ORDER BY each.due_at LIMIT most FOR UPDATE SKIP LOCKED
        ) AS due
        ORDER BY due.due_at LIMIT most
    ) AS due
    WHERE run.flow_id = due.flow_id RETURNING run.flow_id, run.definition_hash
"""


@pytest.mark.superuser
async def test_as_the_first_draft_has_it_a_claim_would_lock_more(
    pool: Pool, owner: Connection
) -> None:
    sound = await owner.fetchval("SELECT pg_get_functiondef('claim_flow_runs'::regproc)")
    head = sound[: sound.index("BEGIN")]
    await owner.execute(f"{head} BEGIN RETURN QUERY {FIRST_CLAIM}; END $function$")
    definitions = await due_flows(pool)
    async with pool.acquire() as connection, connection.transaction():
        claims = await PgLeases(Lender(connection)).claim(definitions, uuid4(), 32, HOUR)
        locked = 2_000 - await free_rows(pool)
    assert len(claims) == 32
    assert locked == 50 * 32


async def due_flows(pool: Pool) -> list[str]:
    """Store 40 due flows of each of 50 definitions, without their logs."""
    definitions = [f"{number:064x}" for number in range(50)]
    await pool.execute(
        "INSERT INTO flow_runs (flow_id, definition_hash, due_at)"
        " SELECT gen_random_uuid(), definition, now() - interval '1 second'"
        " FROM unnest($1::text[]) AS definition, generate_series(1, 40)",
        definitions,
    )
    return definitions


async def free_rows(pool: Pool) -> int:
    """Return the number of rows that nobody has locked."""
    found: int = await pool.fetchval(
        "SELECT count(*) FROM (SELECT 1 FROM flow_runs FOR UPDATE SKIP LOCKED) AS free"
    )
    return found


async def test_a_row_that_is_locked_is_neither_claimed_nor_renewed_nor_called(
    desk: Desk, pool: Pool
) -> None:
    locked, free = await desk.submit(), await desk.submit()
    held = [(flow_id, await desk.take(flow_id, NOW)) for flow_id in (locked, free)]
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute("SELECT FROM flow_runs WHERE flow_id = $1 FOR UPDATE", locked)
        found = await desk.leases.renew(held, NOW)
        assert found == {locked: Renewal.SKIPPED, free: Renewal.RENEWED}
        assert await desk.leases.call([locked, free]) == [free]
        (claim,) = await desk.leases.claim([HASH], uuid4(), 2, NOW)
        assert claim.flow_id == free
        assert await desk.leases.release([held[0], (free, claim.token)]) == [free]
    assert (await desk.leases.renew(held, NOW)) == {
        locked: Renewal.RENEWED,
        free: Renewal.LOST,
    }


async def test_batches_over_the_same_flows_in_opposite_orders_do_not_deadlock(
    desk: Desk, pool: Pool, owner: Connection
) -> None:
    low, high = sorted([await desk.submit(), await desk.submit()])
    event_id = uuid4()
    async with gate(owner, "event_log", f"NEW.event_id = '{event_id}'"):
        first = asyncio.create_task(batch(pool, (low, None), (high, event_id)))
        await until_blocked(owner)
        second = asyncio.create_task(batch(pool, (high, None), (low, None)))
        await until_blocked(owner, 2)
    await first
    with pytest.raises(asyncpg.UniqueViolationError):  # it lost the race for both, and says so
        await second
    for flow_id in (low, high):
        assert len(await desk.store.list(flow_id)) == 2


@pytest.mark.superuser
async def test_in_the_order_of_the_callers_they_would_deadlock(
    desk: Desk, pool: Pool, owner: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(place_events, "sorted", list, raising=False)
    low, high = sorted([await desk.submit(), await desk.submit()])
    event_id = uuid4()
    async with gate(owner, "event_log", f"NEW.event_id = '{event_id}'"):
        first = asyncio.create_task(batch(pool, (low, None), (high, event_id)))
        await until_blocked(owner)
        second = asyncio.create_task(batch(pool, (high, None), (low, None)))
        await until_blocked(owner, 2)
    outcomes = await asyncio.gather(first, second, return_exceptions=True)
    assert asyncpg.DeadlockDetectedError in {type(outcome) for outcome in outcomes}


async def batch(pool: Pool, *appends: tuple[UUID, UUID | None]) -> None:
    """Append a signal to each flow by one statement."""
    requests = [
        append_request(
            AppendCall(flow_id, [SIGNAL], event_ids=None if event_id is None else [event_id]),
            ts=SystemClock().now(),
            max_artifact_bytes=1,
        )
        for flow_id, event_id in appends
    ]
    async with pool.acquire() as connection:
        await append_batch(connection, [Append(request) for request in requests], FlowHeads())
