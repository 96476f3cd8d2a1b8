"""A feed under concurrent writers, savepoints, wrapping numbers, lost writers, standbys."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import TypeAlias

import asyncpg
import pytest

from chem_persistence import FlowEvent, PgEventStore, PoolProvider, StepSignal, StoreUnavailable
from tests.support.flows.flows import initialized, new_flow_id

Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"

EXPLAIN = "EXPLAIN SELECT * FROM event_log WHERE seq > 100 AND seq <= 1100 ORDER BY seq LIMIT 1000"
SET_LAST = "SELECT setval('event_log_seq_seq', $1)"
TERMINATE = "SELECT pg_terminate_backend($1::integer)"
LOCKS = (
    "SELECT count(*)::integer FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()"
)


class ChangedItsMind(Exception):
    """A transaction that is rolled back."""


def signal(number: int) -> StepSignal:
    return StepSignal(0, "acquire", "progress", number)


@pytest.fixture
async def store(pool: Pool) -> AsyncIterator[PgEventStore]:
    store = PgEventStore(PoolProvider(pool))
    yield store
    await store.aclose()


@pytest.fixture
async def administrator(admin_url: str) -> "AsyncIterator[asyncpg.Connection[asyncpg.Record]]":
    connection = await asyncpg.connect(admin_url)
    yield connection
    await connection.close()


async def write(store: PgEventStore, chance: random.Random, flows: int) -> list[int]:
    """Append directly and in transactions that stay open for a while; some are rolled back."""
    seqs: list[int] = []
    for _ in range(flows):
        flow_id = new_flow_id()
        if chance.random() < 0.5:
            seqs.append((await store.append_kind(flow_id, initialized())).seq)
            continue
        with suppress(ChangedItsMind):
            async with store.transaction() as tx:
                own = []
                for version in range(chance.randrange(1, 4)):
                    own.append((await tx.append_kind(flow_id, signal(version))).seq)
                    await tx.connection.execute(f"SELECT pg_sleep({chance.random() / 100})")
                if chance.random() < 0.3:
                    raise ChangedItsMind
            seqs += own
    return seqs


async def test_a_follower_of_writers_at_once_misses_nothing(store: PgEventStore) -> None:
    seen: list[FlowEvent] = []

    async def follow() -> None:
        async for event in store.follow(poll_interval=0.001):
            seen.append(event)
            if event.flow_id == last_flow:
                return

    last_flow = new_flow_id()
    follower = asyncio.create_task(follow())
    written = await asyncio.gather(*(write(store, random.Random(seed), 25) for seed in range(8)))
    last = await store.append_kind(last_flow, initialized())
    await follower
    expected = [*sorted(seq for seqs in written for seq in seqs), last.seq]
    assert [event.seq for event in seen] == expected
    assert expected != list(
        range(expected[0], expected[0] + len(expected))
    )  # some were rolled back


async def test_a_savepoint_that_is_rolled_back_does_not_let_go(store: PgEventStore) -> None:
    async with store.transaction() as tx:
        with suppress(ChangedItsMind):
            async with tx.connection.transaction():
                await tx.append_kind(new_flow_id(), initialized())
                raise ChangedItsMind
        kept = await tx.append_kind(new_flow_id(), initialized())
        other = await store.append_kind(new_flow_id(), initialized())
        assert await store.read_feed() == []
    assert await store.read_feed() == [kept, other]


async def test_a_savepoint_after_the_first_append_does_not_let_go_either(
    store: PgEventStore,
) -> None:
    async with store.transaction() as tx:
        kept = await tx.append_kind(new_flow_id(), initialized())
        with suppress(ChangedItsMind):
            async with tx.connection.transaction():
                await tx.append_kind(new_flow_id(), initialized())
                raise ChangedItsMind
        other = await store.append_kind(new_flow_id(), initialized())
        assert await store.read_feed() == []
    assert await store.read_feed() == [kept, other]


async def test_a_transaction_holds_one_lock_however_much_it_appends(store: PgEventStore) -> None:
    async with store.transaction() as tx:
        for _ in range(20):
            await tx.append_kind(new_flow_id(), initialized())
        (row,) = await tx.connection.fetch(LOCKS)
    assert row["count"] == 1


@pytest.mark.parametrize("last", [2**31 - 3, 2**31 - 2, 2**31 - 1, 2**31, 2**32 - 1, 2**40 - 2])
@pytest.mark.superuser
async def test_numbers_beyond_the_lock_s_31_bits_wrap(
    store: PgEventStore, administrator: "asyncpg.Connection[asyncpg.Record]", last: int
) -> None:
    await administrator.execute(SET_LAST.replace("$1", str(last)))
    before = await store.append_kind(new_flow_id(), initialized())
    async with store.transaction() as tx:
        late = await tx.append_kind(new_flow_id(), initialized())
        others = [await store.append_kind(new_flow_id(), initialized()) for _ in range(3)]
        assert await store.read_feed(after_seq=last) == [before]
    assert await store.read_feed(after_seq=last) == [before, late, *others]
    assert before.seq == last + 1


@pytest.mark.superuser
async def test_a_lost_writer_stalls_nothing(
    store: PgEventStore, administrator: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    async def is_terminated() -> None:
        async with store.transaction() as tx:
            await tx.append_kind(new_flow_id(), initialized())
            (row,) = await tx.connection.fetch("SELECT pg_backend_pid() AS pid")
            await store.append_kind(new_flow_id(), signal(0))
            assert await store.read_feed() == []
            assert await administrator.fetchval(TERMINATE, row["pid"])
            await tx.append_kind(new_flow_id(), initialized())

    with pytest.raises(StoreUnavailable):
        await is_terminated()
    (event,) = await store.read_feed()
    assert event.kind == signal(0)


@pytest.mark.superuser
async def test_without_its_lock_an_append_that_commits_late_is_missed(
    store: PgEventStore, administrator: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    sound = await administrator.fetchval("SELECT pg_get_functiondef('append_rows'::regproc)")
    await administrator.execute(sound.replace("pg_advisory_xact_lock_shared(", "("))
    async with store.transaction() as tx:
        early = await tx.append_kind(new_flow_id(), initialized())
        late = await store.append_kind(new_flow_id(), initialized())
        assert await store.read_feed() == [late]
    assert early.seq < late.seq


async def test_locks_of_other_programs_stall_nothing(store: PgEventStore, pool: Pool) -> None:
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute(
            "SELECT pg_advisory_xact_lock(0), pg_advisory_xact_lock_shared(0, 0)"
        )
        event = await store.append_kind(new_flow_id(), initialized())
        assert await store.read_feed() == [event]


async def test_a_page_is_read_by_its_index(store: PgEventStore, pool: Pool) -> None:
    for _ in range(4):
        await store.append_kinds(new_flow_id(), [signal(number) for number in range(500)])
    async with pool.acquire() as connection, connection.transaction():
        plan = "\n".join(row[0] for row in await connection.fetch(EXPLAIN))
    assert "event_log_seq_idx" in plan
