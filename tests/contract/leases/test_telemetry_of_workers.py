"""What workers count, on every store."""

import asyncio
from collections.abc import Iterator

import pytest

from chem_persistence import StepStarted
from chem_persistence.store.leasing.leases import FlowCounter, FlowCounts
from chem_persistence.worker import backlog
from tests.support.faults.watching import Heard, watching
from tests.support.leases.desk import HOUR, NOW, Desk, failed
from tests.support.leases.staff import Act, Acts, chain, client_of, submit, until, working


@pytest.fixture
def heard() -> Iterator[Heard]:
    with watching() as heard:
        yield heard


async def test_claims_take_overs_and_steps_are_counted_by_definition(
    desk: Desk, heard: Heard
) -> None:
    flow = chain(Act(Acts(), "one"), Act(Acts(), "two"))
    fresh, left = await submit(desk, flow), await submit(desk, flow)
    await desk.store.append_kind(left, StepStarted(0, "one"))
    async with working(desk, [flow]):
        for flow_id in (fresh, left):
            await until(desk, flow_id, lambda events: events[-1].variant == "C")
    name = flow.definition_hash
    assert heard.values("chem_persistence.worker.claims") == {(name,): 2}
    assert heard.values("chem_persistence.worker.take_overs") == {(name,): 1}
    assert heard.values("chem_persistence.worker.lease_losses") == {}
    assert heard.values("chem_persistence.step.duration") == {(name, "one"): 2, (name, "two"): 2}


async def test_a_lost_lease_is_counted(desk: Desk, heard: Heard) -> None:
    acts = Acts()
    acts.held = frozenset({"act"})
    flow = chain(Act(acts))
    flow_id = await submit(desk, flow)
    async with working(desk, [flow], at_once=1, lease=HOUR) as worker:
        await acts.begun.wait()
        await desk.make_due(flow_id)
        await desk.take(flow_id)
        acts.may_end.set()
        while worker._running:
            await asyncio.sleep(0.005)
    assert heard.values("chem_persistence.worker.lease_losses") == {(flow.definition_hash,): 1}


async def test_a_flow_that_is_cancelled_while_it_runs_is_no_lost_lease(
    desk: Desk, heard: Heard, caplog: pytest.LogCaptureFixture
) -> None:
    acts = Acts()
    acts.held = frozenset({"act"})
    flow = chain(Act(acts))
    flow_id = await submit(desk, flow)
    async with working(desk, [flow], at_once=1, lease=HOUR) as worker:
        await acts.begun.wait()
        await client_of(desk).cancel(flow_id, reason="not needed")
        acts.may_end.set()
        while worker._running:
            await asyncio.sleep(0.005)
    assert heard.values("chem_persistence.worker.lease_losses") == {}
    assert "is dropped" not in caplog.text


BACKLOG = "chem_persistence.worker.backlog"


async def test_the_flows_of_a_definition_that_are_due_or_wait_are_counted(desk: Desk) -> None:
    assert isinstance(desk.leases, FlowCounter)
    one, two, three = "1" * 64, "2" * 64, "3" * 64
    for definition_hash in (one, one, two):
        await desk.submit(definition_hash=definition_hash)
    held = await desk.submit(definition_hash=two)
    await desk.take(held)
    await desk.submit(HOUR, definition_hash=two)
    failure = failed()
    await desk.submit(NOW, StepStarted(0, "acquire"), failure, definition_hash=two)
    counted = await desk.leases.count_flows([one, two, three])
    assert counted == {one: FlowCounts(2, 0), two: FlowCounts(1, 2), three: FlowCounts(0, 0)}
    await desk.make_due(held)  # its lease has ended
    assert await desk.leases.count_flows([two]) == {two: FlowCounts(2, 2)}


async def test_a_worker_shows_the_backlog_until_it_stops(desk: Desk, heard: Heard) -> None:
    flow = chain(Act(Acts()))
    for due_in in (NOW, NOW, HOUR):
        await submit(desk, flow, due_in=due_in)
    assert heard.values(BACKLOG) == {}
    async with working(desk, [flow]) as worker:
        while not heard.values(BACKLOG):
            await asyncio.sleep(0.005)
        name = flow.definition_hash
        assert heard.values(BACKLOG) == {(name, "due"): 2, (name, "waiting"): 1}
        assert worker._backlog._count_at > 0
    assert heard.values(BACKLOG) == {}


async def test_the_flows_are_counted_no_more_often_than_is_said(
    desk: Desk, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    present = 1_000.0
    monkeypatch.setattr(backlog, "monotonic", lambda: present)
    counting = backlog.Backlog(["1" * 64])
    await counting.count(desk.leases)
    await desk.submit(definition_hash="1" * 64)
    for seconds, due in ((14.9, 0), (15.0, 1)):
        present = 1_000.0 + seconds
        await counting.count(desk.leases)
        assert heard.values(BACKLOG)["1" * 64, "due"] == due
    counting.end()


async def test_without_a_provider_nothing_is_counted(desk: Desk) -> None:
    counting = backlog.Backlog(["1" * 64])
    await counting.count(desk.leases)
    assert counting._count_at == 0.0
