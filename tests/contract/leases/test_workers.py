"""What a worker does with the flows of every store."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest

from chem_persistence import (
    Flow,
    FlowEvent,
    FlowEventKind,
    InvalidArgument,
    RetryPolicy,
    RetryScheduled,
    StepFailed,
    StepSignal,
    StepStarted,
    StepWaits,
    UserInteractionProvided,
    UserInteractionRequested,
    Worker,
)
from chem_persistence.domain.events import CANCEL, RELEASED, FlowCancelled, LibrarySignal
from tests.support.leases.desk import HOUR, Desk, memory_desk, postgres_desk
from tests.support.leases.staff import Act, Acts, chain, submit, trace, until, working

if TYPE_CHECKING:
    import asyncpg


@pytest.fixture
def desk_in_memory() -> Desk:
    return memory_desk()


@pytest.fixture
async def desk_on_postgres(pool: "asyncpg.Pool[asyncpg.Record]") -> AsyncIterator[Desk]:
    async with postgres_desk(pool) as opened:
        yield opened


@pytest.fixture(params=["desk_in_memory", "desk_on_postgres"])
def desk(request: pytest.FixtureRequest) -> Desk:
    """Return each store in turn."""
    desk: Desk = request.getfixturevalue(request.param)
    return desk


@pytest.fixture
def acts() -> Acts:
    return Acts()


def three(acts: Acts) -> Flow[Any, Any]:
    return chain(Act(acts, "one"), Act(acts, "two"), Act(acts, "three"))


def is_over(events: Sequence[FlowEvent]) -> bool:
    return events[-1].variant in "CK"


def has_failed(events: Sequence[FlowEvent]) -> bool:
    return any(event.variant == "X" for event in events)


# ---- running


async def test_a_flow_that_a_worker_claims_anew_is_not_run_twice_at_once(
    desk: Desk, acts: Acts
) -> None:
    flow, acts.held = chain(Act(acts)), frozenset({"act"})
    async with working(desk, [flow], lease=HOUR):
        flow_id = await submit(desk, flow)
        await acts.begun.wait()
        acts.begun.clear()
        await desk.make_due(flow_id)  # as after the process was stopped for an hour
        await acts.begun.wait()
        acts.may_end.set()
        await until(desk, flow_id, is_over)
    assert await trace(desk, flow_id) == "ISSFC"
    assert acts.cancelled == ["act"]


async def test_a_worker_runs_what_is_due_to_its_end(desk: Desk, acts: Acts) -> None:
    flow = three(acts)
    flow_ids = [await submit(desk, flow, n) for n in range(10)]
    async with working(desk, [flow]):
        for flow_id in flow_ids:
            await until(desk, flow_id, is_over)
    assert {await trace(desk, flow_id) for flow_id in flow_ids} == {"ISFSFSFC"}
    assert [await desk.row(flow_id) for flow_id in flow_ids] == [None] * 10
    assert len(acts.runs) == 30


async def test_a_worker_runs_no_more_flows_at_once_than_it_may(desk: Desk, acts: Acts) -> None:
    flow = three(acts)
    flow_ids = [await submit(desk, flow, n) for n in range(8)]
    async with working(desk, [flow], at_once=2):
        for flow_id in flow_ids:
            await until(desk, flow_id, is_over)
    assert acts.most_at_once <= 2


async def test_a_worker_leaves_the_flows_of_other_definitions(desk: Desk, acts: Acts) -> None:
    mine, other = three(acts), chain(Act(acts, "other"))
    flow_id, left = await submit(desk, mine), await submit(desk, other)
    async with working(desk, [mine]):
        await until(desk, flow_id, is_over)
    assert await trace(desk, left) == "I"
    assert (await desk.seen(left)).due == "now"


async def test_a_flow_that_is_not_due_is_not_run(desk: Desk, acts: Acts) -> None:
    flow = three(acts)
    later, flow_id = await submit(desk, flow, due_in=HOUR), await submit(desk, flow)
    async with working(desk, [flow]):
        await until(desk, flow_id, is_over)
    assert await trace(desk, later) == "I"


async def test_a_long_flow_does_not_keep_others_from_being_claimed(desk: Desk, acts: Acts) -> None:
    acts.held = frozenset({"long"})
    long, short = chain(Act(acts, "long")), chain(Act(acts, "short"))
    await submit(desk, long)
    async with working(desk, [long, short], at_once=2):
        await acts.begun.wait()
        for _ in range(3):
            await until(desk, await submit(desk, short), is_over)
        acts.may_end.set()


async def test_the_steps_of_a_process_share_its_limits(desk: Desk, acts: Acts) -> None:
    flow = chain(Act(acts, "one", uses={"cores": 2}), Act(acts, "two", uses={"cores": 1}))
    flow_ids = [await submit(desk, flow, n) for n in range(6)]
    acts.held = frozenset({"one"})
    async with working(desk, [flow], limits={"cores": 5}):
        while acts.running < 2:
            await asyncio.sleep(0.005)
        await until_claimed(desk, flow_ids)
        assert {await trace(desk, flow_id) for flow_id in flow_ids} == {"IS", "I"}
        acts.held = frozenset()
        acts.may_end.set()
        for flow_id in flow_ids:
            await until(desk, flow_id, is_over)
    assert {await trace(desk, flow_id) for flow_id in flow_ids} == {"ISFSFC"}
    assert acts.most_at_once <= 5


async def until_claimed(desk: Desk, flow_ids: Sequence[UUID]) -> None:
    while not all([(await desk.seen(flow_id)).lease for flow_id in flow_ids]):
        await asyncio.sleep(0.005)


async def test_a_step_that_needs_more_than_there_is_is_refused(desk: Desk, acts: Acts) -> None:
    flow = chain(Act(acts, uses={"cores": 5}))
    with pytest.raises(InvalidArgument, match="uses 5 of 'cores'"):
        Worker(desk.store, [flow], limits={"cores": 4})


# ---- retries


async def test_a_failure_and_its_retry_are_one_append(desk: Desk, acts: Acts) -> None:
    flow = chain(Act(acts, retry=RetryPolicy(attempts=3, first=2 * HOUR, longest=2 * HOUR)))
    acts.failures = [ValueError("no")]
    flow_id = await submit(desk, flow)
    async with working(desk, [flow]):
        events = await until(desk, flow_id, has_failed)
    failed, retry = events[2].kind, events[3].kind
    assert isinstance(failed, StepFailed)
    assert isinstance(retry, RetryScheduled)
    assert isinstance(retry.not_before, datetime)
    assert HOUR <= retry.not_before - events[3].ts <= 2 * HOUR + timedelta(seconds=1)
    assert (await desk.seen(flow_id)).due in {"in 1 h", "in 2 h"}


async def test_a_retry_runs_when_it_is_due(desk: Desk, acts: Acts) -> None:
    flow = chain(Act(acts, retry=RetryPolicy(attempts=3, first=HOUR, longest=HOUR)))
    acts.failures = [ValueError("no"), TimeoutError("no")]
    flow_id = await submit(desk, flow)
    async with working(desk, [flow]):
        for failures in (1, 2):
            await until(desk, flow_id, lambda events, n=failures: _failures(events) == n)  # type: ignore[misc]
            await desk.make_due(flow_id)
        await until(desk, flow_id, is_over)
    assert await trace(desk, flow_id) == "ISXRSXRSFC"


def _failures(events: Sequence[FlowEvent]) -> int:
    return sum(event.variant == "X" for event in events)


async def test_a_flow_whose_attempts_are_used_up_has_failed(desk: Desk, acts: Acts) -> None:
    flow = chain(Act(acts, retry=RetryPolicy(attempts=2, first=timedelta(0))))
    acts.failures = [ValueError("no"), ValueError("no")]
    flow_id = await submit(desk, flow)
    async with working(desk, [flow]):
        await until(desk, flow_id, lambda events: _failures(events) == 2)
    assert await trace(desk, flow_id) == "ISXRSX"
    assert (await desk.seen(flow_id)).due == "never"


async def test_an_error_that_is_never_tried_again_is_alone(desk: Desk, acts: Acts) -> None:
    policy = RetryPolicy(attempts=5, on=(Exception,), never_on=(LookupError,))
    flow = chain(Act(acts, retry=policy))
    acts.failures = [KeyError("no")]
    flow_id = await submit(desk, flow)
    async with working(desk, [flow]):
        await until(desk, flow_id, has_failed)
    assert await trace(desk, flow_id) == "ISX"


async def test_a_call_does_not_make_a_retry_come_early(desk: Desk, acts: Acts) -> None:
    flow = chain(Act(acts, retry=RetryPolicy(attempts=2, first=2 * HOUR, longest=2 * HOUR)))
    acts.failures = [ValueError("no")]
    flow_id = await submit(desk, flow)
    async with working(desk, [flow]) as worker:
        await until(desk, flow_id, has_failed)
        await desk.store.append_kind(flow_id, StepSignal(0, "act", "hello"))
        while not worker._left_at:
            await asyncio.sleep(0.005)
    assert await trace(desk, flow_id) == "ISXRG"
    assert (await desk.seen(flow_id)).due in {"in 1 h", "in 2 h"}


async def test_a_step_that_takes_too_long_fails(desk: Desk, acts: Acts) -> None:
    acts.held = frozenset({"act"})
    flow = chain(Act(acts, timeout=0.01))
    flow_id = await submit(desk, flow)
    async with working(desk, [flow]):
        events = await until(desk, flow_id, has_failed)
    assert isinstance(events[-1].kind, StepFailed)
    assert events[-1].kind.error.error_class == "builtins.TimeoutError"
    assert acts.cancelled == ["act"]


@pytest.mark.parametrize("parks", [True, False])
async def test_a_flow_that_waits_and_is_called_keeps_its_time(
    desk: Desk,
    acts: Acts,
    parks: bool,  # noqa: FBT001
) -> None:
    flow, until_then = chain(Act(acts)), datetime.now(UTC) + 2 * HOUR
    flow_id, other = await submit(desk, flow), await submit(desk, flow)
    parked: FlowEventKind = (
        StepWaits(0, "act", until_then)
        if parks
        else UserInteractionRequested(0, "act", until=until_then)
    )
    await desk.store.append_kinds(flow_id, [parked, StepSignal(0, "act", "hello")])
    assert (await desk.seen(flow_id)).due == "now"
    async with working(desk, [flow]):
        await until(desk, other, is_over)
        while (await desk.seen(flow_id)).due != "in 2 h":
            await asyncio.sleep(0.005)
    assert acts.runs == [("act", other)]


# ---- workers that died


async def test_a_step_that_kills_its_workers_fails_for_good(desk: Desk, acts: Acts) -> None:
    flow = chain(Act(acts, retry=RetryPolicy(attempts=9, crashes=2)))
    flow_id = await submit(desk, flow)
    start = StepStarted(0, "act")
    await desk.store.append_kinds(flow_id, [start, start], expected_version=1)
    async with working(desk, [flow]):
        events = await until(desk, flow_id, has_failed)
    assert await trace(desk, flow_id) == "ISSX"
    assert isinstance(events[-1].kind, StepFailed)
    assert events[-1].kind.error.error_class == "chem_persistence.WorkerLost"
    assert acts.runs == []
    assert (await desk.seen(flow_id)).due == "never"


async def test_a_start_that_was_released_is_no_crash(desk: Desk, acts: Acts) -> None:
    flow = chain(Act(acts, retry=RetryPolicy(crashes=2)))
    flow_id = await submit(desk, flow)
    start, released = StepStarted(0, "act"), LibrarySignal(0, "act", RELEASED)
    await desk.store.append_kinds(flow_id, [start, released, start], expected_version=1)
    async with working(desk, [flow]):
        await until(desk, flow_id, is_over)
    assert await trace(desk, flow_id) == "ISGSSFC"


# ---- what others say


@pytest.mark.parametrize(
    "said", [StepSignal(0, "act", "hello", 1), UserInteractionProvided(0, "act", "yes")]
)
async def test_an_outcome_is_appended_behind_what_was_said(
    desk: Desk, acts: Acts, said: StepSignal | UserInteractionProvided
) -> None:
    acts.held = frozenset({"act"})
    flow = chain(Act(acts), Act(acts, "next"))
    flow_id = await submit(desk, flow)
    async with working(desk, [flow]):
        await acts.begun.wait()
        await desk.store.append_kind(flow_id, said)
        acts.may_end.set()
        await until(desk, flow_id, is_over)
    assert await trace(desk, flow_id) == f"IS{said.variant}FSFC"
    assert len(acts.runs) == 2


async def test_the_outcome_of_an_overtaken_attempt_is_dropped(desk: Desk, acts: Acts) -> None:
    acts.held = frozenset({"act"})
    flow = chain(Act(acts))
    flow_id = await submit(desk, flow)
    async with working(desk, [flow]):
        await acts.begun.wait()
        await desk.store.append_kind(flow_id, StepStarted(0, "act"))
        acts.held = frozenset()
        acts.may_end.set()
        await until(desk, flow_id, is_over)
    assert await trace(desk, flow_id) == "ISSGSFC"
    assert len(acts.runs) == 2


async def test_a_cancellation_stops_the_running_step(desk: Desk, acts: Acts) -> None:
    acts.held = frozenset({"act"})
    flow = chain(Act(acts))
    flow_id = await submit(desk, flow)
    # the first renewal opens a connection, which takes a while on a busy cluster
    async with working(desk, [flow], lease=timedelta(seconds=1.5)):
        await acts.begun.wait()
        await desk.store.append_kind(
            flow_id, LibrarySignal(0, "act", CANCEL, {"reason": "not needed"})
        )
        events = await until(desk, flow_id, is_over)
    assert await trace(desk, flow_id) == "ISGK"
    assert events[-1].kind == FlowCancelled("not needed")
    assert acts.cancelled == ["act"]
    assert await desk.row(flow_id) is None


async def test_an_outcome_that_comes_after_a_cancellation_is_kept(desk: Desk, acts: Acts) -> None:
    acts.held = frozenset({"act"})
    flow = chain(Act(acts), Act(acts, "next"))
    flow_id = await submit(desk, flow)
    async with working(desk, [flow], lease=HOUR):
        await acts.begun.wait()
        await desk.store.append_kind(flow_id, LibrarySignal(0, "act", CANCEL))
        acts.may_end.set()
        await until(desk, flow_id, is_over)
    assert await trace(desk, flow_id) == "ISGFK"


async def test_a_flow_that_is_cancelled_before_it_is_claimed_never_runs(
    desk: Desk, acts: Acts
) -> None:
    flow = chain(Act(acts))
    flow_id = await submit(desk, flow)
    await desk.store.append_kind(flow_id, LibrarySignal(0, "act", CANCEL))
    async with working(desk, [flow]):
        await until(desk, flow_id, is_over)
    assert await trace(desk, flow_id) == "IGK"
    assert acts.runs == []


# ---- leases that are lost


async def test_the_step_of_a_flow_that_another_worker_has_is_cancelled(
    desk: Desk, acts: Acts
) -> None:
    acts.held = frozenset({"act"})
    flow = chain(Act(acts))
    flow_id = await submit(desk, flow)
    async with working(desk, [flow], at_once=1, lease=timedelta(seconds=0.6)):
        await acts.begun.wait()
        await desk.make_due(flow_id)
        await desk.take(flow_id)
        while not acts.cancelled:
            await asyncio.sleep(0.005)
    assert await trace(desk, flow_id) == "IS"


async def test_the_append_of_a_lease_that_was_lost_is_refused(desk: Desk, acts: Acts) -> None:
    acts.held = frozenset({"act"})
    flow = chain(Act(acts))
    flow_id = await submit(desk, flow)
    async with working(desk, [flow], at_once=1, lease=HOUR) as worker:
        await acts.begun.wait()
        await desk.make_due(flow_id)
        token = await desk.take(flow_id)
        acts.may_end.set()
        while worker._running:
            await asyncio.sleep(0.005)
    assert await trace(desk, flow_id) == "IS"
    assert (await desk.seen(flow_id)).lease == token


# ---- stopping


async def test_a_worker_that_stops_waits_for_its_steps(desk: Desk, acts: Acts) -> None:
    acts.held = frozenset({"one"})
    flow = three(acts)
    flow_id = await submit(desk, flow)
    async with working(desk, [flow]) as worker:
        await acts.begun.wait()
        worker.stop()
        acts.may_end.set()
    assert await trace(desk, flow_id) == "ISFSG"
    assert (await desk.seen(flow_id)).due == "now"
    async with working(desk, [flow]):
        await until(desk, flow_id, is_over)
    assert await trace(desk, flow_id) == "ISFSGSFSFC"


async def test_a_worker_that_stops_releases_what_does_not_end(desk: Desk, acts: Acts) -> None:
    acts.held = frozenset({"act"})
    flow = chain(Act(acts))
    flow_ids = [await submit(desk, flow, n) for n in range(5)]
    async with working(desk, [flow], grace=timedelta(0)):
        while len(acts.runs) < 5:
            await asyncio.sleep(0.005)
    assert acts.cancelled == ["act"] * 5
    assert {await trace(desk, flow_id) for flow_id in flow_ids} == {"ISG"}
    assert {(await desk.seen(flow_id)).due for flow_id in flow_ids} == {"now"}


async def test_a_step_that_fails_because_it_is_interrupted_has_not_failed(
    desk: Desk, acts: Acts
) -> None:
    acts.held = frozenset({"act"})
    acts.raised_when_cancelled = OSError("the connection was closed")
    flow = chain(Act(acts))
    flow_id = await submit(desk, flow)
    async with working(desk, [flow], grace=timedelta(0)):
        await acts.begun.wait()
    assert await trace(desk, flow_id) == "ISG"


async def test_a_worker_that_is_told_to_stop_before_it_runs_claims_nothing(
    desk: Desk, acts: Acts
) -> None:
    flow = chain(Act(acts))
    flow_id, worker = await submit(desk, flow), Worker(desk.store, [flow])
    worker.stop()
    await worker.run()
    assert await trace(desk, flow_id) == "I"


async def test_two_workers_share_the_flows(desk: Desk, acts: Acts) -> None:
    flow = three(acts)
    flow_ids = [await submit(desk, flow, n) for n in range(20)]
    async with working(desk, [flow], at_once=4), working(desk, [flow], at_once=4):
        for flow_id in flow_ids:
            await until(desk, flow_id, is_over)
    assert {await trace(desk, flow_id) for flow_id in flow_ids} == {"ISFSFSFC"}
    assert len(acts.runs) == 60


async def test_a_worker_whose_task_is_cancelled_releases_its_flows(desk: Desk, acts: Acts) -> None:
    acts.held = frozenset({"act"})
    flow = chain(Act(acts))
    flow_id = await submit(desk, flow)
    task = asyncio.create_task(Worker(desk.store, [flow]).run())
    await acts.begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await trace(desk, flow_id) == "ISG"
    assert (await desk.seen(flow_id)).due == "now"


async def test_a_flow_that_cannot_be_loaded_comes_back_later(desk: Desk, acts: Acts) -> None:
    flow, other = chain(Act(acts)), chain(Act(acts, "other"))
    broken, flow_id = await submit(desk, flow), await submit(desk, flow)
    await desk.store.append_kind(broken, StepStarted(0, "unknown"))
    async with working(desk, [flow, other]) as worker:
        await until(desk, flow_id, is_over)
        assert worker._pauses == {broken: timedelta(minutes=1)}
        await desk.make_due(broken)
        while worker._pauses != {broken: timedelta(minutes=2)}:
            await asyncio.sleep(0.005)
    row = await desk.seen(broken)
    assert (row.lease, row.due_in is not None and row.due_in > timedelta(0)) == (None, True)


# ---- the worker's arguments


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"at_once": 0}, "at_once"),
        ({"lease": timedelta(0)}, "lease"),
        ({"grace": timedelta(seconds=-1)}, "grace"),
        ({"limits": {"cores": 0}}, "limits"),
    ],
)
def test_what_a_worker_cannot_be_is_refused(
    options: dict[str, object], name: str, acts: Acts
) -> None:
    with pytest.raises(InvalidArgument, match=name):
        Worker(memory_desk().store, [chain(Act(acts))], **options)  # type: ignore[arg-type]


def test_a_worker_needs_a_flow() -> None:
    with pytest.raises(InvalidArgument, match="flows"):
        Worker(memory_desk().store, [])
