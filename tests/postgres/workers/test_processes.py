"""Worker processes that are killed, stopped, told to end, and whose steps block or die."""

import asyncio
import signal
from collections.abc import AsyncIterator, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING
from uuid import UUID

import pytest

from chem_persistence import FlowEvent, PgLeases, StepFailed
from tests.support.faults.fleet import CRASHES, fleet_flow, fleet_worker
from tests.support.leases.desk import Desk, postgres_desk
from tests.support.leases.staff import submit, trace, until

if TYPE_CHECKING:
    import asyncpg

KILLED, TERMINATED = -signal.SIGKILL, -signal.SIGTERM


@pytest.fixture
async def desk(pool: "asyncpg.Pool[asyncpg.Record]") -> AsyncIterator[Desk]:
    async with postgres_desk(pool) as opened:
        yield opened


def is_over(events: Sequence[FlowEvent]) -> bool:
    return events[-1].variant == "C"


async def test_another_worker_goes_on_with_the_flow_of_one_that_was_killed(
    desk: Desk, database_url: str, pool: "asyncpg.Pool[asyncpg.Record]"
) -> None:
    flow_id = await submit(desk, fleet_flow())
    async with fleet_worker(database_url, "--hold", "two") as first:
        await first.line("holding")
        first.kill()
        assert await first.end() == KILLED
        async with fleet_worker(database_url) as second:
            await taken_over(pool, flow_id)
            await second.line("run three")
            await until(desk, flow_id, is_over)
            assert second.lines == ["run two 2", "run three 1"]
    assert await trace(desk, flow_id) == "ISFSSFSFC"
    assert await desk.row(flow_id) is None


async def test_a_flow_whose_worker_was_killed_keeps_its_slot_until_it_has_ended(
    desk: Desk, database_url: str, pool: "asyncpg.Pool[asyncpg.Record]"
) -> None:
    assert isinstance(desk.leases, PgLeases)
    slots, first_id = desk.leases.slots, await submit(desk, fleet_flow())
    await slots.set_limit("gpu", 1)
    async with fleet_worker(database_url, "--uses", "two", "--hold", "two") as first:
        await first.line("holding")
        first.kill()
        assert await first.end() == KILLED
    async with fleet_worker(database_url, "--uses", "two") as second:
        other_id = await submit(desk, fleet_flow())
        while (await slots.limits())[0].waiting == 0:
            await asyncio.sleep(0.02)
        assert [each.flow_id for each in (await slots.limits())[0].users] == [first_id]
        assert await trace(desk, other_id) == "ISF"
        await taken_over(pool, first_id)
        for flow_id in (first_id, other_id):
            await until(desk, flow_id, is_over)
        (limit,) = await slots.limits()
        assert (limit.used, limit.waiting) == (0, 0)
        assert second.lines == []
    assert await trace(desk, first_id) == "ISFSSFSFC"
    assert await trace(desk, other_id) == "ISFSFSFC"


async def test_a_worker_that_was_stopped_too_long_cannot_append(
    desk: Desk, database_url: str, pool: "asyncpg.Pool[asyncpg.Record]"
) -> None:
    flow_id = await submit(desk, fleet_flow())
    async with fleet_worker(database_url, "--hold", "two") as first:
        await first.line("holding")
        first.send_signal(signal.SIGSTOP)
        async with fleet_worker(database_url) as second:
            await taken_over(pool, flow_id)
            await second.line("run three")
            await until(desk, flow_id, is_over)
        first.send_signal(signal.SIGCONT)
        await first.go_on()
        dropped = await first.line(f"flow {flow_id} is dropped")
        assert "is not held by this lease any more" in dropped
    assert await trace(desk, flow_id) == "ISFSSFSFC"


async def test_a_worker_that_goes_on_after_its_lease_drops_its_flow(
    desk: Desk, database_url: str
) -> None:
    flow_id = await submit(desk, fleet_flow())
    async with fleet_worker(database_url, "--hold", "two", "--lease", "2") as first:
        await first.line("holding")
        first.send_signal(signal.SIGSTOP)
        async with fleet_worker(database_url) as second:  # claims it when the lease has ended
            await second.line("run three")
            await until(desk, flow_id, is_over)
        first.send_signal(signal.SIGCONT)
        await first.line(f"flow {flow_id} is dropped")
    assert await trace(desk, flow_id) == "ISFSSFSFC"


async def test_a_worker_that_is_told_to_end_releases_its_flows(
    desk: Desk, database_url: str
) -> None:
    flow_id = await submit(desk, fleet_flow())
    async with fleet_worker(database_url, "--hold", "two", "--grace", "0") as first:
        await first.line("holding")
        first.send_signal(signal.SIGTERM)
        assert await first.end() == 0
        assert first.lines[-1] == "stopped"
    assert await trace(desk, flow_id) == "ISFSG"
    row = await desk.seen(flow_id)
    assert (row.due, row.lease) == ("now", None)


async def test_a_worker_that_is_told_to_end_waits_for_its_step(
    desk: Desk, database_url: str
) -> None:
    flow_id = await submit(desk, fleet_flow())
    async with fleet_worker(database_url, "--hold", "three") as first:
        await first.line("holding")
        first.send_signal(signal.SIGINT)
        await first.go_on()
        assert await first.end() == 0
    assert await trace(desk, flow_id) == "ISFSFSFC"


async def test_a_second_signal_ends_a_worker_whose_step_blocks(
    desk: Desk, database_url: str
) -> None:
    flow_id = await submit(desk, fleet_flow())
    async with fleet_worker(database_url, "--block", "one") as first:
        await first.line("holding")
        first.send_signal(signal.SIGTERM)
        first.send_signal(signal.SIGINT)
        assert await first.end() in {-signal.SIGINT, TERMINATED}
    assert await trace(desk, flow_id) == "IS"


async def test_a_step_that_blocks_the_event_loop_keeps_its_lease(
    desk: Desk, database_url: str, pool: "asyncpg.Pool[asyncpg.Record]"
) -> None:
    flow_id = await submit(desk, fleet_flow())
    lease = timedelta(seconds=1.5)
    async with fleet_worker(database_url, "--block", "two", "--lease", "1.5") as first:
        await first.line("holding")
        token = (await desk.seen(flow_id)).lease
        begun = await lease_end(pool, flow_id)
        while await lease_end(pool, flow_id) - begun < 3 * lease:
            await asyncio.sleep(0.02)
        assert (await desk.seen(flow_id)).lease == token
        await first.go_on()
        await until(desk, flow_id, is_over)
    assert await trace(desk, flow_id) == "ISFSFSFC"


async def test_a_worker_that_does_not_answer_loses_its_leases(
    desk: Desk, database_url: str
) -> None:
    flow_id = await submit(desk, fleet_flow())
    options = ("--block", "two", "--lease", "2", "--stall", "0.1")
    async with fleet_worker(database_url, *options) as first:
        await first.line("holding")
        async with fleet_worker(database_url) as second:
            await second.line("run three")
            await until(desk, flow_id, is_over)
        await first.go_on()
        await first.line(f"flow {flow_id} is dropped")
    assert await trace(desk, flow_id) == "ISFSSFSFC"


async def test_a_step_that_blocks_and_is_not_heard_from_loses_its_lease(
    desk: Desk, database_url: str
) -> None:
    flow_id = await submit(desk, fleet_flow())
    options = ("--block", "two", "--lease", "2", "--silence", "0.1", "--grace", "0.1")
    async with fleet_worker(database_url, *options) as first:
        await first.line("holding")
        async with fleet_worker(database_url) as second:
            await second.line("run three")
            await until(desk, flow_id, is_over)
        await first.go_on()
        await first.line(f"flow {flow_id} is dropped")
    assert await trace(desk, flow_id) == "ISFSSFSFC"


async def test_a_step_that_ends_its_process_does_not_end_every_worker(
    desk: Desk, database_url: str, pool: "asyncpg.Pool[asyncpg.Record]"
) -> None:
    flow_id = await submit(desk, fleet_flow())
    for number in range(CRASHES):
        async with fleet_worker(database_url, "--die", "two") as dying:
            if number > 0:
                await taken_over(pool, flow_id)
            assert await dying.end() == 7
    async with fleet_worker(database_url, "--die", "two") as living:
        await taken_over(pool, flow_id)
        events = await until(desk, flow_id, lambda events: events[-1].variant == "X")
        living.send_signal(signal.SIGTERM)
        assert await living.end() == 0
    assert await trace(desk, flow_id) == "ISFSSX"
    assert isinstance(events[-1].kind, StepFailed)
    assert events[-1].kind.error.error_class == "chem_persistence.WorkerLost"


async def taken_over(pool: "asyncpg.Pool[asyncpg.Record]", flow_id: UUID) -> None:
    """End the lease of a flow's holder until another worker holds the flow, or has released it.

    Again and again, since a claim that the holder has sent last may still reach the server.
    """
    read = "SELECT holder FROM flow_runs WHERE flow_id = $1"
    holder = await pool.fetchval(read, flow_id)
    while holder is not None and await pool.fetchval(read, flow_id) == holder:
        await pool.execute(
            "UPDATE flow_runs SET due_at = now() - interval '1 second' "
            "WHERE flow_id = $1 AND holder = $2",
            flow_id,
            holder,
        )
        await asyncio.sleep(0.02)


async def lease_end(pool: "asyncpg.Pool[asyncpg.Record]", flow_id: UUID) -> datetime:
    """Return when the lease of a flow ends."""
    found = await pool.fetchval("SELECT due_at FROM flow_runs WHERE flow_id = $1", flow_id)
    assert isinstance(found, datetime)
    return found
