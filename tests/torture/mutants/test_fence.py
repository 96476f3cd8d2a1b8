"""Without the fence alone a worker goes on with a flow that another one holds; that is found."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from chem_persistence import Flow, StaleLease, StepSignal
from tests.support.leases.desk import HOUR, Desk, postgres_desk
from tests.support.leases.staff import Act, Acts, Number, chain, submit, trace, working

pytestmark = [pytest.mark.superuser, pytest.mark.one_row]

FENCE = """
            OR (f.lease IS NOT NULL AND (f.holder IS NULL OR f.first_version > 0)
                AND (SELECT run.lease FROM flow_runs AS run
                    WHERE run.flow_id = f.flow_id) IS DISTINCT FROM f.lease)"""


@pytest.fixture
async def desk(pool: "asyncpg.Pool[asyncpg.Record]") -> AsyncIterator[Desk]:
    async with postgres_desk(pool) as opened:
        yield opened


@pytest.fixture(params=["sound", "without the fence"])
async def is_fenced(request: pytest.FixtureRequest, admin_url: str) -> bool:
    """Take the fence out of `append_rows`, in one of two runs; return whether it is there."""
    if request.param == "sound":
        return True
    owner = await asyncpg.connect(admin_url)
    sound = await owner.fetchval("SELECT pg_get_functiondef('append_rows'::regproc)")
    broken = sound.replace(FENCE, "")
    assert broken != sound
    await owner.execute(broken)
    await owner.close()
    return False


def three(acts: Acts) -> Flow[Number, Any]:
    return chain(Act(acts, "one"), Act(acts, "two"), Act(acts, "three"))


async def lost_in_step_two(desk: Desk, acts: Acts) -> tuple[UUID, UUID]:
    """Have a worker lose its flow in the midst of a step, which then ends; return flow and token.

    The token is the other holder's, which appends nothing.
    """
    acts.held = frozenset({"two"})
    flow_id = await submit(desk, three(acts))
    async with working(desk, [three(acts)], lease=HOUR, at_once=1) as worker:
        await acts.begun.wait()
        await desk.make_due(flow_id)  # as if the worker had been stopped for an hour
        token = await desk.take(flow_id)
        acts.may_end.set()
        while worker._running:
            await asyncio.sleep(0.005)
    return flow_id, token


async def test_a_worker_that_lost_its_flow_goes_on_with_it_if_there_is_no_fence(
    desk: Desk,
    is_fenced: bool,  # noqa: FBT001
) -> None:
    acts = Acts()
    flow_id, token = await lost_in_step_two(desk, acts)
    row = await desk.row(flow_id)
    if is_fenced:
        assert await trace(desk, flow_id) == "ISFS"
        assert [step_id for step_id, _ in acts.runs] == ["one", "two"]
        assert row is not None
        assert row.lease == token
    else:  # it has run a step and ended a flow that it does not hold
        assert await trace(desk, flow_id) == "ISFSFSFC"
        assert [step_id for step_id, _ in acts.runs] == ["one", "two", "three"]
        assert row is None


async def test_an_older_lease_appends_behind_a_newer_one_if_there_is_no_fence(
    desk: Desk,
    is_fenced: bool,  # noqa: FBT001
) -> None:
    flow_id = await desk.submit()
    old = desk.store.leased(flow_id, await desk.take(flow_id))
    await desk.make_due(flow_id)
    new = desk.store.leased(flow_id, await desk.take(flow_id))
    await new.append_kind(flow_id, StepSignal(0, "acquire", "of the newer one"))
    last = StepSignal(0, "acquire", "of the older one")
    if is_fenced:
        with pytest.raises(StaleLease):
            await old.append_kind(flow_id, last, expected_version=2)
        assert await trace(desk, flow_id) == "IG"
    else:
        await old.append_kind(flow_id, last, expected_version=2)
        assert await trace(desk, flow_id) == "IGG"
