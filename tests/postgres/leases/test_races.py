"""Claims, appends and give-backs on several connections at once."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypeAlias
from uuid import UUID, uuid4

import asyncpg
import pytest

from chem_persistence import (
    ConcurrencyConflict,
    FlowCompleted,
    PgEventStore,
    PgLeases,
    PoolProvider,
    StaleLease,
    StepFinished,
    StepSignal,
    StepStarted,
    StepWaits,
)
from chem_persistence.postgres.append.place_events import Append, FlowHeads, append_batch
from chem_persistence.postgres.append.settle import Stored
from chem_persistence.store.append_request import AppendCall, append_request
from chem_persistence.store.clock import SystemClock
from tests.support.faults.gate import gate
from tests.support.flows.flows import new_flow_id
from tests.support.leases.desk import HASH, NOW, Desk, given, postgres_desk
from tests.support.leases.lender import Lender
from tests.support.servers.waiting import until_blocked

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"

STARTED = StepStarted(0, "acquire")
FINISHED = StepFinished(0, "acquire", (), "f" * 64)
SIGNAL = StepSignal(0, "acquire", "cancel")
COMPLETED = FlowCompleted("e" * 64)


@pytest.fixture
async def desk(pool: Pool) -> AsyncIterator[Desk]:
    async with postgres_desk(pool) as opened:
        yield opened


async def append(connection: Connection, call: AppendCall) -> Stored:
    """Append on a connection that may be in a transaction."""
    request = append_request(call, ts=SystemClock().now(), max_artifact_bytes=1)
    (outcome,) = (await append_batch(connection, [Append(request)], FlowHeads())).values()
    assert isinstance(outcome, Stored)
    return outcome


@asynccontextmanager
async def in_flight(pool: Pool, call: AppendCall) -> AsyncIterator[None]:
    """Make an append that commits when the block ends."""
    async with pool.acquire() as connection, connection.transaction():
        await append(connection, call)  # type: ignore[arg-type]
        yield


# ---- the one append of the old holder that may still be stored


async def test_an_append_in_flight_while_another_claims_is_seen_by_its_first_append(
    desk: Desk, pool: Pool
) -> None:
    flow_id = await desk.submit()
    old = await desk.take(flow_id, NOW)
    async with in_flight(pool, AppendCall(flow_id, [STARTED, FINISHED], lease=old)):
        mine = desk.store.leased(flow_id, await desk.take(flow_id))
        first = asyncio.create_task(mine.append_kind(flow_id, STARTED, expected_version=1))
        await until_blocked(pool)
    with pytest.raises(ConcurrencyConflict):
        await first
    await mine.append_kind(flow_id, COMPLETED, expected_version=3)
    with pytest.raises(StaleLease):
        await desk.store.leased(flow_id, old).append_kind(flow_id, STARTED)
    assert [event.variant for event in await desk.store.list(flow_id)] == ["I", "S", "F", "C"]


async def test_an_append_in_flight_that_parks_the_flow_takes_it_from_the_new_holder(
    desk: Desk, owner: Connection
) -> None:
    flow_id = await desk.submit()
    old = desk.store.leased(flow_id, await desk.take(flow_id, NOW))
    # the events are stored by then, and the flow's row is not changed yet
    async with gate(owner, "workflow_step_executions", f"NEW.flow_id = '{flow_id}'"):
        parking = asyncio.create_task(
            old.append_kinds(flow_id, [STARTED, StepWaits(0, "acquire", None)])
        )
        await until_blocked(owner)
        mine = desk.store.leased(flow_id, await desk.take(flow_id))
    assert len(await parking) == 2
    row = await desk.seen(flow_id)
    assert (row.due, row.lease) == ("never", None)
    with pytest.raises(StaleLease):
        await mine.append_kind(flow_id, STARTED, expected_version=1)


# ---- wake-ups


@pytest.mark.parametrize("order", ["the signal's row first", "the row of the holder first"])
async def test_a_signal_while_a_flow_is_given_back_wakes_it(
    desk: Desk, pool: Pool, order: str
) -> None:
    flow_id = await desk.submit()
    token = await desk.take(flow_id)
    given_back = desk.leases.give_back(flow_id, token, None)
    if order == "the signal's row first":
        async with in_flight(pool, AppendCall(flow_id, [SIGNAL])):
            giving = asyncio.create_task(given_back)
            await until_blocked(pool)
        assert await giving
    else:
        async with pool.acquire() as connection, connection.transaction():
            assert await PgLeases(Lender(connection)).give_back(flow_id, token, None)
            signalling = asyncio.create_task(desk.store.append_kind(flow_id, SIGNAL))
            await until_blocked(pool)
        given_back.close()
        await signalling
    assert (await desk.seen(flow_id)).due == "now"


FIRST_DRAFTS = {
    "without the flag": """
        UPDATE flow_runs SET lease = NULL, holder = NULL, called = false, due_at = 'infinity'
        WHERE flow_id = flow AND lease = token""",
    "with a look at the log": """
        UPDATE flow_runs SET lease = NULL, holder = NULL, called = false, due_at = 'infinity'
        WHERE flow_id = flow AND lease = token
            AND (SELECT max(version) FROM event_log WHERE flow_id = flow) = 0""",
}


@pytest.mark.superuser
@pytest.mark.parametrize("draft", FIRST_DRAFTS)
async def test_without_the_flag_the_wake_up_would_be_lost(
    desk: Desk, pool: Pool, owner: Connection, draft: str
) -> None:
    await owner.execute(f"""
        CREATE OR REPLACE FUNCTION give_back_flow_run(flow uuid, token uuid, due_in interval)
        RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN {FIRST_DRAFTS[draft]}; RETURN FOUND; END $$
    """)
    flow_id = await desk.submit()
    token = await desk.take(flow_id)
    async with in_flight(pool, AppendCall(flow_id, [SIGNAL])):
        giving = asyncio.create_task(desk.leases.give_back(flow_id, token, None))
        await until_blocked(pool)
    await giving
    assert (await desk.seen(flow_id)).due == "never"


# ---- the rebuild


async def test_a_rebuild_waits_for_an_append_that_found_no_row(desk: Desk, pool: Pool) -> None:
    flow_id = await desk.submit(NOW, STARTED, StepWaits(0, "acquire", None))
    await desk.forget(flow_id)
    async with in_flight(pool, AppendCall(flow_id, [SIGNAL])):
        rebuilding = asyncio.create_task(desk.leases.rebuild())
        await until_blocked(pool)
    assert await rebuilding == 1
    assert (await desk.seen(flow_id)).due == "now"


@pytest.mark.superuser
async def test_without_its_lock_a_rebuild_would_lose_a_wake_up(
    desk: Desk, pool: Pool, owner: Connection
) -> None:
    sound = await owner.fetchval("SELECT pg_get_functiondef('add_flow_runs'::regproc)")
    await owner.execute(sound.replace("LOCK TABLE flow_runs IN EXCLUSIVE MODE;", ""))
    flow_id = await desk.submit(NOW, STARTED, StepWaits(0, "acquire", None))
    await desk.forget(flow_id)
    async with in_flight(pool, AppendCall(flow_id, [SIGNAL])):
        assert await desk.leases.rebuild() == 1
    assert (await desk.seen(flow_id)).due == "never"


async def test_a_rebuild_under_living_holders_changes_nothing(desk: Desk, pool: Pool) -> None:
    flow_ids = [await desk.submit() for _ in range(20)]
    held = {flow_id: await desk.take(flow_id) for flow_id in flow_ids[:10]}
    for flow_id in flow_ids[10:]:
        await desk.store.append_kinds(flow_id, [STARTED, StepWaits(0, "acquire", None)])

    async def work(flow_id: UUID, token: UUID) -> None:
        mine = desk.store.leased(flow_id, token)
        for number in range(5):
            await mine.append_kind(flow_id, StepStarted(number, f"s{number}"))
        await mine.append_kind(flow_id, COMPLETED)

    rebuilt, *_ = await asyncio.gather(
        rebuild_often(desk), *(work(flow_id, token) for flow_id, token in held.items())
    )
    assert rebuilt == 0
    rows = await pool.fetch("SELECT flow_id, due_at = 'infinity' AS sleeps FROM flow_runs")
    assert {row["flow_id"]: row["sleeps"] for row in rows} == dict.fromkeys(flow_ids[10:], True)


async def rebuild_often(desk: Desk) -> int:
    return sum([await desk.leases.rebuild() for _ in range(10)])


# ---- all at once


class Worker:
    """Claims flows and runs them, with leases that are over at once: all of them are contested."""

    def __init__(self, pool: Pool, seed: int) -> None:
        self.store, self.leases = PgEventStore(PoolProvider(pool)), PgLeases(PoolProvider(pool))
        self.worker, self._chance = uuid4(), random.Random(seed)
        self.refused = 0

    async def run(self, flow_ids: set[UUID]) -> None:
        while claims := await self.leases.claim([HASH], self.worker, 8, NOW):
            for claim in claims:
                if claim.flow_id in flow_ids and self._chance.random() < 0.8:  # else it dies
                    await self._step(claim.flow_id, claim.token)

    async def _step(self, flow_id: UUID, token: UUID) -> None:
        mine = self.store.leased(flow_id, token)
        try:
            events = await mine.list(flow_id)
            if events[-1].variant == "C":
                return
            finished = sum(event.variant == "F" for event in events)
            started = await mine.append_kind(
                flow_id, StepStarted(finished, "s"), expected_version=len(events)
            )
            if self._chance.random() < 0.1:
                return
            outcome = [StepFinished(finished, "s", (), "f" * 64)]
            last = [COMPLETED] if finished == 2 else []
            await mine.append_kinds(
                flow_id, [*outcome, *last], expected_version=started.version + 1
            )
        except (StaleLease, ConcurrencyConflict):
            self.refused += 1


async def test_contested_flows_are_each_completed_once(pool: Pool) -> None:
    workers = [Worker(pool, seed) for seed in range(6)]
    store = workers[0].store
    flow_ids = {new_flow_id() for _ in range(40)}
    await asyncio.gather(
        *(store.append_kind(each, given(), expected_version=0) for each in flow_ids)
    )
    await asyncio.gather(*(worker.run(flow_ids) for worker in workers))
    for events in (await store.list_many(flow_ids)).values():
        kinds = [event.variant for event in events]
        assert [event.version for event in events] == list(range(len(events)))
        assert (kinds.count("F"), kinds.count("C"), kinds[-1]) == (3, 1, "C")
        for place, kind in enumerate(kinds):
            assert kind != "F" or kinds[place - 1] == "S"
    assert sum(worker.refused for worker in workers) > 0
    assert await pool.fetchval("SELECT count(*) FROM flow_runs") == 0
    for worker in workers:
        await worker.store.aclose()
