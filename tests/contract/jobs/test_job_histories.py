"""Any queue and any deaths: a job is submitted once, and what has been cancelled runs no more."""

import asyncio
import tempfile
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chem_persistence import FlowAlreadyCompleted, FlowState
from chem_persistence.engine.jobs.history import job_history
from chem_persistence.engine.leases import held_flow
from chem_persistence.worker import worker
from tests.contract.jobs.test_deaths_with_jobs import dies_at
from tests.support.examples import examples
from tests.support.faults.mortal_store import Life
from tests.support.jobs.queue import BOUNDARIES, Queue
from tests.support.jobs.steps import cube
from tests.support.leases.deaths import worked_until_death
from tests.support.leases.desk import Desk, memory_desk
from tests.support.leases.staff import Number, client_of, submit, trace

FAULTS = st.fixed_dictionaries(
    {
        "submit": st.lists(st.sampled_from([None, "accepted", "refused"]), max_size=3),
        "find": st.lists(st.sampled_from([None, "no answer"]), max_size=2),
        "poll": st.lists(st.sampled_from([None, "no answer", "failed"]), max_size=3),
        "collect": st.lists(st.sampled_from([None, "no answer"]), max_size=2),
        "cancel": st.just([]),
    }
)
DEATHS = st.lists(st.integers(1, 12) | st.sampled_from(BOUNDARIES), max_size=4)


async def lived(desk: Desk, queue: Queue, deaths: list[Any], cancel_after: int | None) -> None:
    """Run a flow with a job on workers that die one after the other, then on one that does not."""
    jobs, client = cube(queue, 20), client_of(desk)
    flow_id = await submit(desk, jobs, 3)
    for number, death in enumerate([*deaths, 10**6]):
        if number == cancel_after:
            with suppress(FlowAlreadyCompleted):
                await client.cancel(flow_id, reason="enough")
        life = Life(death if isinstance(death, int) else 10**6)
        queue.at = dies_at(life, str(death))
        await worked_until_death(desk, [jobs], life, client.wait(flow_id))
        if await desk.row(flow_id) is not None:
            await desk.make_due(flow_id)
    state = await client.wait(flow_id)
    failed = job_history(await desk.store.list(flow_id), 0).failed
    tokens = queue.tokens()
    assert len(tokens) == len(set(tokens))
    if state is FlowState.COMPLETED:
        assert await client.result(jobs, flow_id) == Number(27)
        assert len(tokens) == failed + 1
    elif state is FlowState.CANCELLED:
        left = [job for job in queue.accepted() if not queue.has_ended(job)]
        assert len([job for job in left if not queue.is_cancelled(job)]) <= failed
    assert (await trace(desk, flow_id)).count("F") <= 1


@settings(max_examples=examples(25), deadline=None)
@given(FAULTS, DEATHS, st.none() | st.integers(0, 4))
def test_a_job_is_submitted_once(
    faults: dict[str, list[str | None]], deaths: list[Any], cancel_after: int | None
) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        # a worker leaves a flow for a minute whose queue does not say what became of a job, or
        # whose job was to be over
        patch.setattr(worker, "FIRST_PAUSE", timedelta(milliseconds=10))
        patch.setattr(held_flow, "AGAIN", timedelta(milliseconds=10))
        queue = Queue(Path(folder), lag=0.005)
        queue.faults = faults
        asyncio.run(lived(memory_desk(), queue, deaths, cancel_after))
