"""Nothing is lost by kills, rollbacks and clean switchovers, and nobody is told that it was."""

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from uuid import UUID

import asyncpg
import pytest

from chem_persistence import (
    ConcurrencyConflict,
    FeedPosition,
    HistoryLost,
    PgEventStore,
    PoolProvider,
    StepSignal,
    StoreError,
    build_pool,
)
from tests.support.flows.flows import new_flow_id
from tests.support.servers.lives import Life, Switchover

SIGNAL = StepSignal(0, "acquire", "progress")
PROCESSES, TASKS, SWITCHOVERS = 3, 4, 4
KILLS = 5
DRIVER_ERRORS = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
)
"""What the caller's own statements raise when their session is cut off."""

READ_LOG = "SELECT seq FROM event_log ORDER BY seq"
TERMINATE = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid() AND usename IS NOT NULL
        AND backend_type = 'client backend'
    ORDER BY random() LIMIT 2
"""


class ChangedItsMind(Exception):
    """A transaction or a savepoint that is rolled back."""


async def write(store: PgEventStore, flow_ids: Sequence[UUID], seed: int) -> None:
    """Append in all ways, for ever; what is refused or cut off is left as it is."""
    chance = random.Random(seed)
    while True:
        flow_id = chance.choice(flow_ids)
        try:
            match chance.randrange(5):
                case 0:
                    await _in_transaction(store, flow_id, chance)
                case 1:
                    version = chance.randrange(200)
                    await store.append_kind(flow_id, SIGNAL, expected_version=version)
                case _:
                    await store.append_kinds(flow_id, [SIGNAL] * chance.randint(1, 3))
        except (ChangedItsMind, ConcurrencyConflict):
            pass
        except (StoreError, *DRIVER_ERRORS):
            await asyncio.sleep(0.05)  # the database is away


async def _in_transaction(store: PgEventStore, flow_id: UUID, chance: random.Random) -> None:
    async with store.transaction() as tx:
        await tx.append_kind(flow_id, SIGNAL)
        with suppress(ChangedItsMind):
            async with tx.connection.transaction():
                await tx.append_kinds(flow_id, [SIGNAL] * 2)
                raise ChangedItsMind
        await tx.append_kind(flow_id, SIGNAL)
        await tx.connection.execute(f"SELECT pg_sleep({chance.random() / 20})")
        if chance.random() < 0.5:
            raise ChangedItsMind


async def follow(store: PgEventStore, seen: list[int]) -> None:
    """Follow from position to position, for ever; each page is checked, and each window too."""
    position = FeedPosition.start()
    while True:
        try:
            page = await store.read_feed_page(position, limit=100)
        except (StoreError, OSError):
            await asyncio.sleep(0.05)
            continue
        seen += [event.seq for event in page.events]
        position = page.position
        if not page.events:
            await asyncio.sleep(0.01)


@asynccontextmanager
async def at_work(life: Life, seen: list[int]) -> AsyncIterator[None]:
    """Run writers and a follower; an alarm ends them, and the test."""
    flow_ids = [new_flow_id() for _ in range(5)]
    pools = [await build_pool(life.url, max_size=TASKS) for _ in range(PROCESSES + 1)]
    *stores, reader = [PgEventStore(PoolProvider(pool)) for pool in pools]
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(write(store, flow_ids, TASKS * number + task))
                for number, store in enumerate(stores)
                for task in range(TASKS)
            ]
            tasks.append(group.create_task(follow(reader, seen)))
            yield
            for task in tasks:
                task.cancel()
    finally:
        for pool in pools:
            pool.terminate()


async def grown(seen: list[int], by: int) -> None:
    """Wait until the follower has seen so many more events."""
    wanted = len(seen) + by
    while len(seen) < wanted:
        await asyncio.sleep(0.01)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [Switchover], indirect=True)
async def test_kills_rollbacks_and_clean_switchovers_raise_no_alarm(life: Switchover) -> None:
    seen: list[int] = []
    await (await build_pool(life.url)).close()  # its schema
    try:
        async with at_work(life, seen):
            for _ in range(SWITCHOVERS):
                for _ in range(KILLS):
                    await grown(seen, 30)
                    await life.primary.execute(TERMINATE)
                await life.keep()
                await life.go_back()
                await life.follow_again()
                await grown(seen, 30)
    except* HistoryLost as alarms:
        pytest.fail(f"{alarms.exceptions}")
    async with await build_pool(life.url, max_size=1) as pool:
        logged = [row["seq"] for row in await pool.fetch(READ_LOG)]
    assert seen == logged[: len(seen)]
    assert len(seen) >= SWITCHOVERS * KILLS * 30
