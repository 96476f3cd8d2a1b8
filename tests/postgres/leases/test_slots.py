"""Slots of limited resources that two connections take at once, and the two ways that fail.

The functions of migration 0014 are also run with a part of their text taken out, which must fail.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, TypeAlias
from uuid import UUID

import asyncpg
import pytest

from chem_persistence import PgLeases, StepStarted
from chem_persistence.postgres.schema.migrations import known_migrations
from chem_persistence.postgres.schema.statements import statement
from chem_persistence.store.leasing.slots import FIRST_PAUSE, LONGEST_PAUSE, PAUSE_PER_FLOW
from tests.support.leases.desk import Desk, failed, postgres_desk
from tests.support.servers.waiting import until_blocked

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"

TAKE = statement("slots/take_resource_slots")
LOCK = "SELECT 1 FROM resource_slots WHERE resource = $1 AND slot = 0 FOR UPDATE"
IN_ONE_STATEMENT = """
    UPDATE resource_slots AS slot SET flow_id = $1, step_index = 0
    WHERE slot.resource = 'gpu' AND slot.slot = 0 AND (slot.flow_id = $1 OR NOT EXISTS (
        SELECT 1 FROM workflow_step_executions AS step
        WHERE step.flow_id = slot.flow_id AND step.status <> 'failed'))
    RETURNING slot.slot
"""
STARTED = StepStarted(0, "acquire")


@pytest.fixture
async def desk(pool: Pool) -> AsyncIterator[Desk]:
    async with postgres_desk(pool) as opened:
        yield opened


@pytest.fixture
async def two(pool: Pool) -> AsyncIterator[tuple[Connection, Connection]]:
    async with pool.acquire() as first, pool.acquire() as second:
        yield first, second  # type: ignore[misc]  # a proxy has the same methods


def slots(desk: Desk) -> Any:
    assert isinstance(desk.leases, PgLeases)
    return desk.leases.slots


async def take(connection: Connection, flow_id: UUID, *resources: str) -> bool:
    """Take a slot of each resource; return whether the flow got them."""
    amounts = [1] * len(resources)
    pauses = (FIRST_PAUSE, LONGEST_PAUSE, PAUSE_PER_FLOW)
    row = await connection.fetchrow(TAKE, flow_id, 0, list(resources), amounts, *pauses)
    assert row is not None
    return row["pause"] is None


async def without(admin_url: str, function: str, part: str, instead: str = "") -> None:
    """Replace a function of the last migration by one in which a part of its text is missing."""
    begin = f"CREATE FUNCTION {function}("
    (text,) = [
        text
        for text in known_migrations()[13].statements
        if text.split("--")[0].lstrip().startswith(begin) or f"\n{begin}" in text
    ]
    changed = text.replace(part, instead)
    assert changed != text
    administrator = await asyncpg.connect(admin_url)
    await administrator.execute(changed.replace("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION"))
    await administrator.close()


async def asked_before_the_commit(
    desk: Desk, two: tuple[Connection, Connection], pool: Pool, *, is_blocked: bool
) -> list[bool]:
    """Return who gets the one slot, when the second asks before the first has committed.

    The first is tried again in the transaction in which it finds the slot that it had when its step
    failed. So the second one reads that the slot is free, unless it reads that after the commit.
    """
    await slots(desk).set_limit("gpu", 1)
    again, other = await desk.submit(), await desk.submit()
    assert await take(two[0], again, "gpu")
    await desk.store.append_kinds(again, [STARTED, failed()])
    opened = two[0].transaction()
    await opened.start()
    await two[0].execute(
        "UPDATE workflow_step_executions SET status = 'pending' WHERE flow_id = $1", again
    )
    first = await take(two[0], again, "gpu")
    second = asyncio.create_task(take(two[1], other, "gpu"))
    if is_blocked:
        await until_blocked(pool)
    else:
        await second
    await opened.commit()
    return [first, await second]


async def test_a_slot_is_not_given_twice(
    desk: Desk, two: tuple[Connection, Connection], pool: Pool
) -> None:
    assert await asked_before_the_commit(desk, two, pool, is_blocked=True) == [True, False]


async def test_without_the_lock_a_slot_is_given_twice(
    desk: Desk, two: tuple[Connection, Connection], pool: Pool, admin_url: str
) -> None:
    await without(admin_url, "lock_resources", "FOR UPDATE")
    assert await asked_before_the_commit(desk, two, pool, is_blocked=False) == [True, True]


async def test_one_statement_that_locks_and_looks_gives_it_twice(
    desk: Desk, two: tuple[Connection, Connection], pool: Pool
) -> None:
    """The first draft's way: a statement that waits for a row reads all others as before."""
    await slots(desk).set_limit("gpu", 1)
    again, other = await desk.submit(), await desk.submit()
    assert await take(two[0], again, "gpu")
    await desk.store.append_kinds(again, [STARTED, failed()])
    opened = two[0].transaction()
    await opened.start()
    await two[0].execute(
        "UPDATE workflow_step_executions SET status = 'pending' WHERE flow_id = $1", again
    )
    assert await two[0].fetch(IN_ONE_STATEMENT, again)
    second = asyncio.create_task(two[1].fetch(IN_ONE_STATEMENT, other))
    await until_blocked(pool)
    await opened.commit()
    assert await second


async def in_opposite_orders(
    desk: Desk, two: tuple[Connection, Connection], pool: Pool
) -> list[bool | BaseException]:
    """Return what becomes of two flows that name two resources in opposite orders.

    Each resource is locked by another transaction until both flows wait.
    """
    for resource in ("a", "b"):
        await slots(desk).set_limit(resource, 2)
    flow_ids = [await desk.submit(), await desk.submit()]
    async with pool.acquire() as first, pool.acquire() as second:
        a, b = first.transaction(), second.transaction()
        await a.start()
        await b.start()
        await first.execute(LOCK, "a")
        await second.execute(LOCK, "b")
        takes = [asyncio.create_task(take(two[0], flow_ids[0], "a", "b"))]
        await until_blocked(pool, 1)
        takes.append(asyncio.create_task(take(two[1], flow_ids[1], "b", "a")))
        await until_blocked(pool, 2)
        await a.commit()
        await until_blocked(pool, 2)
        await b.commit()
        return await asyncio.gather(*takes, return_exceptions=True)


async def test_flows_that_use_several_resources_do_not_deadlock(
    desk: Desk, two: tuple[Connection, Connection], pool: Pool
) -> None:
    assert await in_opposite_orders(desk, two, pool) == [True, True]


async def test_without_the_order_they_deadlock(
    desk: Desk, two: tuple[Connection, Connection], pool: Pool, admin_url: str
) -> None:
    unordered = "SELECT asked.resource FROM unnest(resources) AS asked (resource)"
    ordered = (
        "SELECT DISTINCT asked.resource FROM unnest(resources) AS asked (resource)\n"
        "        ORDER BY asked.resource"
    )
    await without(admin_url, "lock_resources", ordered, unordered)
    outcomes = await in_opposite_orders(desk, two, pool)
    assert sorted(map(type, outcomes), key=str) == [asyncpg.DeadlockDetectedError, bool]


async def test_a_session_whose_transactions_are_stricter_takes_no_slot_twice(
    desk: Desk, pool: Pool, admin_url: str
) -> None:
    administrator = await asyncpg.connect(admin_url)
    database = await administrator.fetchval("SELECT current_database()")
    await administrator.execute(
        f"ALTER DATABASE {database} SET default_transaction_isolation TO 'repeatable read'"
    )
    await administrator.close()
    await pool.expire_connections()
    await slots(desk).set_limit("gpu", 2)
    flow_ids = [await desk.submit() for _ in range(6)]
    taken = await asyncio.gather(*(slots(desk).take(each, 0, {"gpu": 1}) for each in flow_ids))
    assert sum(each.pause is None for each in taken) == 2
