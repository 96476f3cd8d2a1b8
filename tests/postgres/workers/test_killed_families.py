"""A family of flows on two worker processes, of which one is killed and one is stopped for long."""

import asyncio
import signal
from collections import Counter
from collections.abc import AsyncIterator, Coroutine, Sequence
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

import pytest

from chem_persistence import FlowEvent, StepFinished
from chem_persistence.store.leasing.children import child_id
from tests.support.faults.fleet import FLEET_STEPS, Process, fleet_family, fleet_worker
from tests.support.leases.desk import Desk, postgres_desk
from tests.support.leases.staff import Number, client_of, submit, trace

if TYPE_CHECKING:
    import asyncpg

CHILDREN, TAKEN_OVER = 20, 12
MAP_STEP = 1

T = TypeVar("T")


@pytest.fixture
async def desk(pool: "asyncpg.Pool[asyncpg.Record]") -> AsyncIterator[Desk]:
    async with postgres_desk(pool) as opened:
        yield opened


async def test_a_family_survives_a_killed_and_a_stopped_worker(
    desk: Desk, database_url: str, pool: "asyncpg.Pool[asyncpg.Record]"
) -> None:
    parent = await submit(desk, fleet_family(), CHILDREN)
    children = [child_id(parent, MAP_STEP, item) for item in range(CHILDREN)]
    async with fleet_worker(database_url, "--hold", "two") as first:
        await held(first, CHILDREN)
        first.send_signal(signal.SIGSTOP)
        async with fleet_worker(database_url, "--hold", "three") as second:
            lost = children[:TAKEN_OVER]
            await while_leases_end(pool, first, held(second, TAKEN_OVER), lost)
            second.kill()
            assert await second.end() == -signal.SIGKILL
        first.send_signal(signal.SIGCONT)
        await first.go_on()
        for _ in range(TAKEN_OVER):
            await first.line("flow ")
        result = client_of(desk).result(fleet_family(), parent)
        assert await while_leases_end(pool, second, result, [parent, *children]) == expected()
    dropped = {line.split()[1] for line in first.lines if " is dropped" in line}
    assert dropped == {str(flow_id) for flow_id in lost}
    await check_family(desk, parent, children)


def expected() -> Number:
    return Number(sum(number + len(FLEET_STEPS) for number in range(CHILDREN)))


async def held(worker: Process, flows: int) -> None:
    """Wait until a worker holds so many flows."""
    for _ in range(flows):
        await worker.line("holding")


async def while_leases_end(
    pool: "asyncpg.Pool[asyncpg.Record]",
    worker: Process,
    waited: Coroutine[Any, Any, T],
    flow_ids: Sequence[UUID],
) -> T:
    """Wait for something; end a process's leases of some flows, again and again meanwhile."""
    task = asyncio.ensure_future(waited)
    while not task.done():
        await pool.execute(
            "UPDATE flow_runs SET due_at = now() FROM flow_workers AS worker "
            "WHERE holder = worker.worker_id AND worker.name LIKE '%:' || $1::text "
            "AND flow_runs.flow_id = ANY ($2)",
            str(worker.pid),
            flow_ids,
        )
        await asyncio.wait([task], timeout=0.02)
    return task.result()


async def check_family(desk: Desk, parent: UUID, children: Sequence[UUID]) -> None:
    """Check that the parent and each child ran to the end, and recorded each step once."""
    assert await trace(desk, parent) == "ISFSWFSFC"
    assert await desk.row(parent) is None
    traces: Counter[str] = Counter()
    for flow_id in children:
        events = await desk.store.list(flow_id)
        assert [event.version for event in events] == list(range(len(events)))
        assert finished_steps(events) == list(FLEET_STEPS)
        assert await desk.row(flow_id) is None
        traces["".join(event.variant for event in events)] += 1
    # some were held at two and then, by the other worker, at three; the rest were never lost
    assert traces == {"ISFSSFSSFC": TAKEN_OVER, "ISFSFSFC": CHILDREN - TAKEN_OVER}


def finished_steps(events: list[FlowEvent]) -> list[str]:
    return [event.kind.step_id for event in events if isinstance(event.kind, StepFinished)]
