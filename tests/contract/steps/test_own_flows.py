"""What `run_to_end` does with flows that it begins: it holds them, as a worker does."""

import asyncio
import subprocess
import sys
from datetime import timedelta
from uuid import UUID, uuid4

import pytest

from chem_persistence import (
    ConcurrencyConflict,
    FlowAlreadyCompleted,
    FlowCancelled,
    FlowCompleted,
    FlowEngine,
    FlowEventKind,
    FlowHasFailed,
    FlowInitialized,
    FlowIsRunning,
    FlowRepository,
    InMemoryEventStore,
    InMemoryFlowRepository,
    InvalidArgument,
    PgFlowRepository,
    RetryPolicy,
    RetryScheduled,
    StaleLease,
    StepFinished,
    StepRaised,
    StepSignal,
    StepStarted,
    StepWaits,
    UserInteractionRequested,
)
from chem_persistence.engine.leases.holders import being_run, own_holder
from chem_persistence.store.leasing.leased_store import LeasedEventStore
from chem_persistence.store.leasing.leases import Claim, FlowCounter, FlowCounts
from tests.support.flows.flows import DEFINITION, new_flow_id
from tests.support.leases.desk import HASH, HOUR, Desk
from tests.support.leases.desk import failed as failure
from tests.support.leases.staff import Act, Acts, Number, chain, trace, until, working

HELD = frozenset({"act"})
RUN_BY_PROGRAM = {"chem_persistence.run_by": "program"}
BEGINS = FlowInitialized(HASH, len(DEFINITION.steps))
ENDED = "from chem_persistence.engine.leases.holders import own_holder; print(own_holder())"


@pytest.fixture(params=["desk_in_memory", "desk_on_postgres"])
def desk(request: pytest.FixtureRequest) -> Desk:
    """Return each store in turn."""
    desk: Desk = request.getfixturevalue(request.param)
    return desk


@pytest.fixture(params=["desk_in_memory", "desk_on_postgres", "desk_distributed"])
def any_desk(request: pytest.FixtureRequest) -> Desk:
    """Return each store in turn, also one with the statements of a distributed log."""
    desk: Desk = request.getfixturevalue(request.param)
    return desk


@pytest.fixture
def acts() -> Acts:
    return Acts()


def engine_of(desk: Desk, *steps: Act) -> FlowEngine[Number]:
    store = desk.store
    repository: FlowRepository = (
        InMemoryFlowRepository(store)
        if isinstance(store, InMemoryEventStore)
        else PgFlowRepository(store._provider)
    )
    return FlowEngine(store, repository, chain(*steps))


async def held_flow(acts: Acts, engine: FlowEngine[Number]) -> "asyncio.Task[UUID]":
    acts.held = HELD
    running = asyncio.create_task(engine.run_to_end(new_flow_id(), Number(0)))
    await acts.begun.wait()
    return running


async def test_a_flow_is_held_from_its_first_append_on(any_desk: Desk, acts: Acts) -> None:
    step = Act(acts)
    running = await held_flow(acts, engine_of(any_desk, step))
    ((_, flow_id),) = acts.runs
    row = await any_desk.seen(flow_id)
    assert row.holder == own_holder()
    assert row.due_in is not None
    assert timedelta(0) < row.due_in <= timedelta(seconds=30)
    assert await any_desk.leases.claim([chain(step).definition_hash], uuid4(), 9, HOUR) == []
    acts.may_end.set()
    assert await running == flow_id
    assert await trace(any_desk, flow_id) == "ISFC"
    assert await any_desk.row(flow_id) is None


async def test_a_second_start_is_refused_at_once(desk: Desk, acts: Acts) -> None:
    step = Act(acts)
    engine = engine_of(desk, step)
    running = await held_flow(acts, engine)
    ((_, flow_id),) = acts.runs
    for other in (engine, engine_of(desk, step)):
        with pytest.raises(FlowIsRunning, match="when its lease ends unless it is renewed") as no:
            await other.run_to_end(flow_id, Number(0))
        assert no.value.lease_left is not None
        with pytest.raises(FlowIsRunning):
            await other.run_step(flow_id)
        with pytest.raises(InvalidArgument, match="another input"):
            await other.run_to_end(flow_id, Number(1))
    acts.may_end.set()
    await running
    assert len(acts.runs) == 1
    with pytest.raises(FlowAlreadyCompleted):
        await engine.run_to_end(flow_id)


async def test_of_many_starts_at_once_one_runs_the_flow(any_desk: Desk, acts: Acts) -> None:
    flow_id, steps = new_flow_id(), (Act(acts, "one"), Act(acts, "two"))
    engines = [engine_of(any_desk, *steps) for _ in range(3)]
    ends = await asyncio.gather(
        *(engine.run_to_end(flow_id, Number(0)) for engine in engines * 2), return_exceptions=True
    )
    assert ends.count(flow_id) == 1
    others = [end for end in ends if end != flow_id]
    assert {type(end) for end in others} <= {FlowIsRunning, FlowAlreadyCompleted}
    assert await trace(any_desk, flow_id) == "ISFSFC"


async def test_a_step_by_itself_leaves_the_flow_to_nobody(desk: Desk, acts: Acts) -> None:
    steps = (Act(acts, "one"), Act(acts, "two"), Act(acts, "three"))
    engine, flow_id = engine_of(desk, *steps), new_flow_id()
    for cursor in (1, 2):
        assert (await engine.run_step(flow_id, Number(0))).cursor == cursor
        row = await desk.seen(flow_id)
        assert (row.due, row.lease) == ("never", None)
    await engine.run_to_end(flow_id)
    assert await trace(desk, flow_id) == "ISFSFSFC"


async def test_a_worker_goes_on_with_a_flow_whose_program_died(desk: Desk, acts: Acts) -> None:
    step = Act(acts)
    running = await held_flow(acts, engine_of(desk, step))
    ((_, flow_id),) = acts.runs
    acts.held = frozenset()
    async with working(desk, [chain(step)]):
        await desk.make_due(flow_id)  # as if nobody had renewed it
        async with asyncio.timeout(30):
            while await desk.row(flow_id) is not None:
                await asyncio.sleep(0.01)
    acts.may_end.set()
    with pytest.raises((StaleLease, FlowAlreadyCompleted, ConcurrencyConflict)):
        await running
    assert await trace(desk, flow_id) == "ISSFC"


@pytest.mark.parametrize("whose", ["an ended process", "this process"])
async def test_the_lease_of_a_program_that_has_ended_is_not_waited_for(
    desk: Desk, acts: Acts, whose: str
) -> None:
    holder = own_holder()
    if whose == "an ended process":
        ended = subprocess.run([sys.executable, "-c", ENDED], capture_output=True, check=True)
        holder = UUID(ended.stdout.decode().strip())
    engine, flow_id = engine_of(desk, Act(acts, "one"), Act(acts, "two")), new_flow_id()
    await engine.run_step(flow_id, Number(0))
    assert await desk.leases.take(flow_id, holder, HOUR) is not None
    await engine.run_to_end(flow_id)
    assert await trace(desk, flow_id) == "ISFSFC"


@pytest.mark.parametrize("whose", ["a worker", "a process that runs", "this process"])
async def test_the_lease_of_who_may_run_the_flow_is_respected(
    desk: Desk, acts: Acts, whose: str
) -> None:
    engine, flow_id = engine_of(desk, Act(acts, "one"), Act(acts, "two")), new_flow_id()
    await engine.run_step(flow_id, Number(0))
    with subprocess.Popen(
        [sys.executable, "-c", f"{ENDED}; import sys; sys.stdout.flush(); input()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as other:
        assert other.stdout is not None
        theirs = UUID(other.stdout.readline().decode().strip())
        holder = {"a worker": uuid4(), "this process": own_holder()}.get(whose, theirs)
        assert await desk.leases.take(flow_id, holder, HOUR) is not None
        with being_run(flow_id), pytest.raises(FlowIsRunning):
            await engine.run_to_end(flow_id)
        other.kill()


async def test_a_failed_flow_is_nobodys_until_it_is_tried_again(desk: Desk, acts: Acts) -> None:
    acts.failures = [ValueError("no")]
    engine, flow_id = engine_of(desk, Act(acts)), new_flow_id()
    with pytest.raises(StepRaised):
        await engine.run_to_end(flow_id, Number(0))
    with pytest.raises(FlowHasFailed):
        await engine.run_to_end(flow_id)
    row = await desk.seen(flow_id)
    assert (row.due, row.lease) == ("never", None)
    await engine.schedule_retry(flow_id, reason="mended")
    assert (await desk.seen(flow_id)).due == "now"
    await engine.run_to_end(flow_id)
    assert await trace(desk, flow_id) == "ISXRSFC"


async def test_a_program_holds_its_flow_while_it_waits_for_a_retry(desk: Desk, acts: Acts) -> None:
    acts.failures = [ValueError("no")]
    step = Act(acts, retry=RetryPolicy(attempts=2, first=timedelta(hours=1)))
    engine, flow_id = engine_of(desk, step), new_flow_id()
    running = asyncio.create_task(engine.run_to_end(flow_id, Number(0)))
    await until(desk, flow_id, lambda events: len(events) == len("ISXR"))
    for start in (engine.run_to_end, engine_of(desk, step).run_step):
        with pytest.raises(FlowIsRunning):
            await start(flow_id)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    row = await desk.seen(flow_id)
    assert (row.due, row.lease) == ("never", None)
    await engine.run_to_end(flow_id)
    assert await trace(desk, flow_id) == "ISXRSFC"


async def test_an_interrupted_program_leaves_its_flow_to_nobody(desk: Desk, acts: Acts) -> None:
    engine = engine_of(desk, Act(acts))
    running = await held_flow(acts, engine)
    ((_, flow_id),) = acts.runs
    await desk.store.append_kind(flow_id, StepSignal(0, "act", "hello"))
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    row = await desk.seen(flow_id)
    assert (row.due, row.lease) == ("never", None), "although it was called"
    acts.held = frozenset()
    await engine.run_to_end(flow_id)
    assert await trace(desk, flow_id) == "ISGSFC"


async def test_what_somebody_says_does_not_take_the_outcome(desk: Desk, acts: Acts) -> None:
    running = await held_flow(acts, engine_of(desk, Act(acts)))
    ((_, flow_id),) = acts.runs
    await desk.store.append_kind(flow_id, StepSignal(0, "act", "hello"))
    acts.may_end.set()
    await running
    assert await trace(desk, flow_id) == "ISGFC"


async def test_a_first_step_that_uses_something_is_run(desk: Desk, acts: Acts) -> None:
    engine, flow_id = engine_of(desk, Act(acts, uses={"cores": 2})), new_flow_id()
    await engine.run_to_end(flow_id, Number(0))
    assert await trace(desk, flow_id) == "ISFC"


def begun(desk: Desk, flow_id: UUID) -> tuple[LeasedEventStore, Claim, UUID]:
    """Return the store of a program that holds a flow for an hour, its claim, and its holder."""
    claim, holder = Claim(flow_id, uuid4(), BEGINS.definition_hash), uuid4()
    return desk.store.of_program(claim, holder, HOUR), claim, holder


async def test_the_first_append_may_release_or_end_what_it_begins(any_desk: Desk) -> None:
    ends: list[tuple[list[FlowEventKind], str | None]] = [
        ([], "in 1 h"),
        ([StepStarted(0, "acquire")], "in 1 h"),
        ([StepStarted(0, "acquire"), StepWaits(0, "acquire", None)], "in 1 h"),
        ([StepStarted(0, "acquire"), failure()], "never"),
        ([StepStarted(0, "acquire"), StepWaits(0, "acquire", None), FlowCancelled("no")], None),
        ([FlowCompleted("f" * 64)], None),
    ]
    for more, due in ends:
        flow_id = new_flow_id()
        store, claim, holder = begun(any_desk, flow_id)
        events = await store.append_kinds(flow_id, [BEGINS, *more], expected_version=0)
        assert [event.metadata for event in events] == [RUN_BY_PROGRAM, *({} for _ in more)]
        row = await any_desk.row(flow_id)
        assert (row and row.due) == due
        held = (claim.token, holder) if due == "in 1 h" else (None, None)
        assert row is None or (row.lease, row.holder) == held


async def test_a_program_keeps_the_lease_while_a_step_waits(any_desk: Desk) -> None:
    flow_id = new_flow_id()
    store, claim, _ = begun(any_desk, flow_id)
    await store.append_kinds(flow_id, [BEGINS, StepStarted(0, "acquire")], expected_version=0)
    waits: list[list[FlowEventKind]] = [
        [StepWaits(0, "acquire", None)],
        [failure(), RetryScheduled("acquire", 1, "again")],
        [UserInteractionRequested(0, "acquire", {}, "")],
    ]
    version = 2
    for facts in waits:
        version += len(await store.append_kinds(flow_id, facts, expected_version=version))
        row = await any_desk.seen(flow_id)
        assert (row.due, row.lease) == ("in 1 h", claim.token)
    await any_desk.store.append_kind(flow_id, StepSignal(0, "acquire", "hello"))
    assert await any_desk.leases.leave(flow_id, claim.token)
    row = await any_desk.seen(flow_id)
    assert (row.due, row.lease) == ("never", None), "although it was called"
    assert not await any_desk.leases.leave(flow_id, claim.token), "it is not held any more"
    assert isinstance(any_desk.leases, FlowCounter)
    assert await any_desk.leases.count_flows([HASH]) == {HASH: FlowCounts()}, "it is not waiting"


@pytest.mark.parametrize(
    ("letters", "due"), [("", "now"), ("S", "now"), ("SX", "never"), ("SF", "now")]
)
async def test_the_row_of_a_program_is_made_again_from_the_log(
    any_desk: Desk, letters: str, due: str
) -> None:
    flow_id = new_flow_id()
    store, claim, _ = begun(any_desk, flow_id)
    facts: dict[str, FlowEventKind] = {
        "S": StepStarted(0, "acquire"),
        "X": failure(),
        "F": StepFinished(0, "acquire", (), "f" * 64),
    }
    kinds = [BEGINS, *(facts[letter] for letter in letters)]
    await store.append_kinds(flow_id, kinds, expected_version=0)
    await any_desk.leases.leave(flow_id, claim.token)
    assert await any_desk.leases.rebuild() == 0, "the row of a program is left as it is"
    assert (await any_desk.seen(flow_id)).due == "never"
    await any_desk.forget(flow_id)
    assert await any_desk.leases.rebuild() == 1
    assert (await any_desk.seen(flow_id)).due == due


async def test_the_copy_of_a_flow_of_a_program_is_nobodys(desk: Desk, acts: Acts) -> None:
    engine, flow_id = engine_of(desk, Act(acts)), new_flow_id()
    begins = FlowInitialized(engine.definition.definition_hash, 1)
    await desk.store.append_kind(flow_id, begins, metadata=RUN_BY_PROGRAM)
    row = await desk.seen(flow_id)
    assert (row.due, row.lease) == ("never", None)


async def test_who_begins_a_flow_second_gets_a_conflict(any_desk: Desk) -> None:
    flow_id = new_flow_id()
    first, claim, _ = begun(any_desk, flow_id)
    event_ids = [uuid4(), uuid4()]
    facts: list[FlowEventKind] = [BEGINS, StepStarted(0, "acquire")]
    events = await first.append_kinds(flow_id, facts, expected_version=0, event_ids=event_ids)
    again = await first.append_kinds(flow_id, facts, expected_version=0, event_ids=event_ids)
    assert again == events, "a lost reply returns the original"
    second, _, _ = begun(any_desk, flow_id)
    with pytest.raises(ConcurrencyConflict) as caught:
        await second.append_kinds(flow_id, [BEGINS], expected_version=0)
    assert (caught.value.expected, caught.value.actual) == (0, 2)
    assert (await any_desk.seen(flow_id)).lease == claim.token
    with pytest.raises(StaleLease):
        await second.append_kinds(flow_id, [StepStarted(0, "acquire")], expected_version=2)
    await first.append_kinds(flow_id, [failure()], expected_version=2)
    assert (await any_desk.seen(flow_id)).lease is None


async def test_a_flow_that_was_begun_by_hand_is_nobodys(desk: Desk, acts: Acts) -> None:
    engine, flow_id = engine_of(desk, Act(acts)), new_flow_id()
    given_input = engine.flow.input_artifact(Number(0))
    assert given_input is not None
    begins = FlowInitialized(engine.definition.definition_hash, 1, given_input.hash)
    await desk.store.append_kind(flow_id, begins, artifacts=[given_input])
    await engine.run_to_end(flow_id)
    assert await trace(desk, flow_id) == "ISFC"
