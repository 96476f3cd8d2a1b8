"""What has left work undone, or done twice, in other systems, and does neither here.

Each test is named after the report, and says what happened there.
"""

import asyncio
from collections.abc import Collection, Iterable, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from chem_persistence import (
    Claim,
    Flow,
    FlowEvent,
    InvalidArgument,
    StaleLease,
    StepStarted,
    StoreUnavailable,
    Worker,
)
from chem_persistence.store.leasing.leases import WorkerRegister
from tests.support.faults.mortal_store import Life
from tests.support.leases.deaths import worked_until_death
from tests.support.leases.desk import HOUR, Desk
from tests.support.leases.staff import (
    Act,
    Acts,
    Number,
    chain,
    client_of,
    submit,
    trace,
    until,
    working,
)

STEPS = ("one", "two", "three")
NAME = "the pod's name"


@pytest.fixture
def acts() -> Acts:
    return Acts()


def three(acts: Acts, **options: Any) -> Flow[Number, Any]:
    return chain(*(Act(acts, step_id, **options) for step_id in STEPS))


def is_over(events: Sequence[FlowEvent]) -> bool:
    return events[-1].variant == "C"


class Failing:
    """The leases of a store; `fails` are the calls that raise, in turn, how often each."""

    def __init__(self, desk: Desk, **fails: int) -> None:
        self.left = fails
        self.leases = desk.store.leases

    def __getattr__(self, name: str) -> Any:
        if self.left.get(name, 0) > 0:
            return self._raise(name)
        return getattr(self.leases, name)

    def _raise(self, name: str) -> Any:
        async def fail(*_: object) -> None:
            self.left[name] -= 1
            raise StoreUnavailable("the server restarts")

        return fail


async def test_dbos_716_an_outage_while_a_dead_workers_flows_are_taken_over(
    desk: Desk, acts: Acts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Recovery ran once, for one executor; what it met with an outage stayed pending for ever.

    The error of each workflow was logged and forgotten, the queue gives out what is enqueued alone.
    """
    flow = three(acts)
    flow_ids = [await submit(desk, flow, n) for n in range(3)]
    for flow_id in flow_ids:
        dead = desk.store.leased(flow_id, await desk.take(flow_id))
        await dead.append_kind(flow_id, StepStarted(0, "one"))
        await desk.make_due(flow_id)
    failing, outage = Failing(desk, release=1), Outage(desk)
    monkeypatch.setattr(desk.store, "list_many", outage.list_many)
    monkeypatch.setattr(type(desk.store), "leases", property(lambda _: failing))
    async with working(desk, [flow]):
        await outage.begun.wait()  # the flows are claimed, and can neither be read nor released
        for flow_id in flow_ids:
            while (await desk.seen(flow_id)).holder is None:
                await asyncio.sleep(0.005)
            await desk.make_due(flow_id)  # as when the lease has ended
        for flow_id in flow_ids:
            await until(desk, flow_id, is_over)
    assert failing.left == {"release": 0}
    assert {await trace(desk, flow_id) for flow_id in flow_ids} == {"ISSFSFSFC"}


class Outage:
    """Lets the first look at claimed flows fail."""

    def __init__(self, desk: Desk) -> None:
        self.begun = asyncio.Event()
        self._list_many = desk.store.list_many

    async def list_many(self, flow_ids: Iterable[UUID]) -> Any:
        if not self.begun.is_set():
            self.begun.set()
            raise StoreUnavailable("the server restarts")
        return await self._list_many(flow_ids)


async def test_dbos_742_a_claim_that_was_read_before_another_one_gave_the_flow_back(
    desk: Desk, acts: Acts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two recoveries read the same pending workflow; one returned it to its queue.

    The other one saw that its own compare-and-set had changed nothing, and ran the workflow.
    """
    flow = chain(Act(acts))
    flow_id = await submit(desk, flow)
    token = await desk.take(flow_id)
    await desk.leases.release([(flow_id, token)])
    stale = [Claim(flow_id, token, flow.definition_hash)]
    asked = asyncio.Event()

    async def claim(*_: object) -> list[Claim]:
        asked.set()
        return [stale.pop()] if stale else []

    with monkeypatch.context() as patched:
        patched.setattr(type(desk.leases), "claim", claim)
        async with working(desk, [flow]):
            await asked.wait()
    assert acts.runs == []
    assert await trace(desk, flow_id) == "I"
    with pytest.raises(StaleLease):
        await desk.store.leased(flow_id, token).append_kind(flow_id, StepStarted(0, "act"))
    async with working(desk, [flow]):
        await until(desk, flow_id, is_over)
    assert (await trace(desk, flow_id), len(acts.runs)) == ("ISFC", 1)


async def test_dbos_759_a_flow_whose_id_cannot_be_used(desk: Desk, acts: Acts) -> None:
    """A workflow with an empty id was accepted, and its recovery ran it under a new id.

    The row itself stayed pending, so that each recovery ran the work once more.
    """
    flow, client = chain(Act(acts)), client_of(desk)
    for flow_id in (UUID(int=0), "", "   "):
        with pytest.raises(InvalidArgument, match="flow_id"):
            await client.submit(flow, Number(0), flow_id=flow_id)  # type: ignore[arg-type]
    assert await desk.store.read_feed() == []
    strange = UUID(int=1)
    await client.submit(flow, Number(0), flow_id=strange)
    async with working(desk, [flow]):
        await until(desk, strange, is_over)
    assert {event.flow_id for event in await desk.store.read_feed()} == {strange}
    assert acts.runs == [("act", strange)]


async def test_dbos_804_a_new_worker_beside_one_of_the_same_name_that_stops(
    desk: Desk, acts: Acts
) -> None:
    """At a restart the old executor claimed once more what the new one had put into the queue.

    Both had the same id. When the old one ended, the new one had done its only recovery.
    """
    old, new = Acts(), acts
    old.held = frozenset({"one"})
    flow_id = await submit(desk, three(old))
    async with working(desk, [three(old)], name=NAME, grace=timedelta(0)):
        await old.begun.wait()
        old.begun.clear()
        await desk.make_due(flow_id)
        await old.begun.wait()  # the old worker has claimed the flow again
        assert await trace(desk, flow_id) == "ISS"
        worker = Worker(desk.store, [three(new)], name=NAME, poll_interval=0.02)
        task = asyncio.create_task(worker.run())
    await until(desk, flow_id, is_over)
    worker.stop()
    await task
    assert await trace(desk, flow_id) == "ISSGSFSFSFC"
    assert [step_id for step_id, _ in new.runs] == list(STEPS)


async def all_over(desk: Desk, flow_ids: Collection[UUID]) -> None:
    await asyncio.gather(*(client_of(desk).wait(flow_id) for flow_id in flow_ids))


@pytest.mark.parametrize("uses", [{}, {"cores": 1}])
async def test_dbos_805_a_worker_that_dies_between_two_steps_of_a_flow(
    desk: Desk, acts: Acts, uses: dict[str, int]
) -> None:
    """A workflow stood between two steps, after each restart, and blocked a queue of width one."""
    flow, stride = three(acts, uses=uses), 1 if desk.name == "memory" else 4
    for calls in range(1, 40, stride):
        flow_ids = [await submit(desk, flow, n) for n in range(2)]
        life = Life(calls)
        await worked_until_death(
            desk, [flow], life, all_over(desk, flow_ids), at_once=1, limits={"cores": 1}
        )
        for flow_id in flow_ids:
            if await desk.row(flow_id) is not None:
                await desk.make_due(flow_id)
        async with working(desk, [flow], at_once=1, limits={"cores": 1}):
            for flow_id in flow_ids:
                events = await until(desk, flow_id, is_over)
                done = [event.kind for event in events if event.variant == "F"]
                assert [getattr(kind, "step_id", "") for kind in done] == list(STEPS)
        if not life.over.is_set():
            return
    pytest.fail("the worker never had enough calls")


async def test_dbos_546_a_flow_that_cannot_be_begun_among_others_of_the_same_claim(
    desk: Desk, acts: Acts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error at the start of one workflow left all that were dequeued behind it pending."""
    flow = chain(Act(acts))
    broken = await submit(desk, flow)
    await desk.store.append_kind(broken, StepStarted(0, "unknown"))
    flow_ids = [await submit(desk, flow, n) for n in range(4)]
    failing = Failing(desk, give_back=1)
    monkeypatch.setattr(type(desk.store), "leases", property(lambda _: failing))
    async with working(desk, [flow], lease=HOUR):
        for flow_id in flow_ids:
            await until(desk, flow_id, is_over)
    assert failing.left == {"give_back": 0}
    assert await trace(desk, broken) == "IS"
    assert sorted(flow_id for _, flow_id in acts.runs) == sorted(flow_ids)


@pytest.mark.parametrize("forgotten", [True, False])
async def test_procrastinate_1518_a_worker_that_is_forgotten_or_comes_back_by_its_name(
    desk: Desk,
    acts: Acts,
    forgotten: bool,  # noqa: FBT001
) -> None:
    """The jobs of a dead worker were found by its row: they stayed when it was pruned.

    They also stayed if the next worker had the same name, whose heartbeat was then theirs.
    """
    flow = chain(Act(acts))
    flow_id, dead = await submit(desk, flow), uuid4()
    (claim,) = await desk.leases.claim([flow.definition_hash], dead, 1, HOUR)
    if isinstance(desk.leases, WorkerRegister):
        await desk.leases.announce(dead, NAME, [flow.definition_hash])
        if forgotten:
            await desk.leases.withdraw(dead)
    async with working(desk, [flow], name=NAME):
        await desk.make_due(flow_id)
        await until(desk, flow_id, is_over)
    assert await trace(desk, flow_id) == "ISFC"
    with pytest.raises(StaleLease):
        await desk.store.leased(flow_id, claim.token).append_kind(flow_id, StepStarted(0, "act"))
