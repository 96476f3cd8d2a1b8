"""Steps that die by a signal, end their process or run out of memory, under workers."""

import signal
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING

import pytest

from chem_persistence import FlowClient, FlowEvent, InMemoryFlowRepository, StepFailed, flow
from tests.support.faults.fleet import fleet_flow, fleet_worker
from tests.support.flows.process_steps import Act, Task
from tests.support.leases.desk import Desk, postgres_desk
from tests.support.leases.staff import client_of, submit, trace, until, working

if TYPE_CHECKING:
    import asyncpg


@pytest.fixture
async def desk(pool: "asyncpg.Pool[asyncpg.Record]") -> AsyncIterator[Desk]:
    async with postgres_desk(pool) as opened:
        yield opened


def is_over(events: Sequence[FlowEvent]) -> bool:
    return events[-1].variant == "C"


def has_failed(events: Sequence[FlowEvent]) -> bool:
    return events[-1].variant == "X"


def failure(events: Sequence[FlowEvent]) -> tuple[str, str]:
    """Return the class and the message of the error of a flow that has failed."""
    failed = events[-1].kind
    assert isinstance(failed, StepFailed)
    return failed.error.error_class, failed.error.message


async def test_a_flow_whose_step_dies_by_a_signal_with_its_worker_is_taken_over(
    desk: Desk, database_url: str
) -> None:
    flow_id = await submit(desk, fleet_flow())
    async with fleet_worker(database_url, "--die", "two", "--how", "signal") as dying:
        assert await dying.end() == -signal.SIGSEGV
    await desk.make_due(flow_id)
    async with working(desk, [fleet_flow()]):
        await until(desk, flow_id, is_over)
    assert await trace(desk, flow_id) == "ISFSSFSFC"


async def test_a_step_that_runs_out_of_memory_fails_and_its_worker_goes_on(
    desk: Desk, database_url: str
) -> None:
    flow_id = await submit(desk, fleet_flow())
    async with fleet_worker(database_url, "--die", "two", "--how", "memory") as worker:
        events = await until(desk, flow_id, has_failed)
        assert failure(events)[0] == "builtins.MemoryError"
        await client_of(desk).retry(flow_id, reason="there is more now")
        await until(desk, flow_id, is_over)
        worker.send_signal(signal.SIGTERM)
        assert await worker.end() == 0
    assert await trace(desk, flow_id) == "ISFSXRSFSFC"


DEATHS = {
    "SIGKILL": ("chem_persistence.ProcessDied", "SIGKILL, perhaps because memory ran out"),
    "no memory": ("builtins.MemoryError", ""),
}


async def test_the_death_of_a_steps_own_process_is_its_failure_and_no_crash_of_the_worker(
    desk: Desk,
) -> None:
    computing = flow("computing", Act())
    client = FlowClient(desk.store, InMemoryFlowRepository(desk.store))
    async with working(desk, [computing]):
        for act, (error_class, message) in DEATHS.items():
            flow_id = await client.submit(computing, Task(act))
            found = failure(await until(desk, flow_id, has_failed))
            assert (found[0], message in found[1]) == (error_class, True)
            assert await trace(desk, flow_id) == "ISX"
        flow_id = await client.submit(computing, Task("tell", text="alive"))
        assert (await client.result(computing, flow_id)).lines[2] == "alive"
