"""The read models, compared with the events that were appended."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from msgspec.structs import replace

from chem_persistence import (
    FlowCancelled,
    FlowCompleted,
    FlowEventKind,
    FlowState,
    InvalidArgument,
    PgEventStore,
    PgFlowRepository,
    PgReadModels,
    PoolProvider,
    RetryScheduled,
    StepError,
    StepFailed,
    StepFinished,
    StepSignal,
    StepStarted,
    StepStatus,
    StepWaits,
    UnreadableEvent,
    UserInteractionRequested,
)
from chem_persistence.domain.events import FlowParent
from tests.support.examples import examples
from tests.support.flows.flows import DEFINITION, initialized, new_flow_id
from tests.support.flows.histories import legal_kinds

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
BROKEN = StepError("ValueError", "no such molecule", "Traceback")
F = "f" * 64


class SetClock:
    """A clock that stands still."""

    def __init__(self) -> None:
        self.time = BEGIN

    def now(self) -> datetime:
        return self.time


def started(index: int) -> StepStarted:
    return StepStarted(index, DEFINITION.steps[index].id)


def finished(index: int, *outputs: str) -> StepFinished:
    return StepFinished(index, DEFINITION.steps[index].id, outputs, F)


def failed(index: int, error: StepError = BROKEN) -> StepFailed:
    return StepFailed(index, DEFINITION.steps[index].id, error, F)


def retried(index: int, number: int) -> RetryScheduled:
    return RetryScheduled(DEFINITION.steps[index].id, number, "again")


TO_THE_END: list[FlowEventKind] = [
    *(kind for index in range(3) for kind in (started(index), finished(index))),
    FlowCompleted("e" * 64),
]
HISTORIES: dict[
    str, tuple[list[FlowEventKind], tuple[FlowState, int, str | None, StepError | None]]
] = {
    "only begun": ([], (FlowState.PENDING, 0, None, None)),
    "signalled before a step began": (
        [StepSignal(0, "acquire", "hurry")],
        (FlowState.PENDING, 0, None, None),
    ),
    "waiting for a time": (
        [started(0), StepWaits(0, "acquire", BEGIN, {"job": "4711"})],
        (FlowState.WAITING, 0, "acquire", None),
    ),
    "waiting again, after a failure": (
        [started(0), failed(0), retried(0, 1), started(0), StepWaits(0, "acquire", None)],
        (FlowState.WAITING, 0, "acquire", None),
    ),
    "under way after a wait": (
        [started(0), StepWaits(0, "acquire", None), started(0)],
        (FlowState.RUNNING, 0, "acquire", None),
    ),
    "cancelled while it waited": (
        [started(0), StepWaits(0, "acquire", None), FlowCancelled("too late")],
        (FlowState.CANCELLED, 0, "acquire", None),
    ),
    "cancelled after a failure": (
        [started(0), failed(0), FlowCancelled("hopeless")],
        (FlowState.CANCELLED, 0, "acquire", BROKEN),
    ),
    "first step under way": ([started(0)], (FlowState.RUNNING, 0, "acquire", None)),
    "between two steps": ([started(0), finished(0)], (FlowState.RUNNING, 1, None, None)),
    "second step under way": (
        [started(0), finished(0), started(1)],
        (FlowState.RUNNING, 1, "compute", None),
    ),
    "failed": (
        [started(0), finished(0), started(1), failed(1)],
        (FlowState.FAILED, 1, "compute", BROKEN),
    ),
    "to be retried": (
        [started(0), failed(0), retried(0, 1)],
        (FlowState.RUNNING, 0, "acquire", None),
    ),
    "retried": (
        [started(0), failed(0), retried(0, 1), started(0)],
        (FlowState.RUNNING, 0, "acquire", None),
    ),
    "waiting for an answer": (
        [started(0), UserInteractionRequested(0, "acquire", {})],
        (FlowState.AWAITING_USER_INPUT, 0, "acquire", None),
    ),
    "all steps finished": (TO_THE_END[:-1], (FlowState.RUNNING, 3, None, None)),
    "completed": (TO_THE_END, (FlowState.COMPLETED, 3, None, None)),
    "spoken of afterwards": (
        [*TO_THE_END, StepSignal(2, "report", "read")],
        (FlowState.COMPLETED, 3, None, None),
    ),
}


@pytest.fixture
def models(provider: PoolProvider) -> PgReadModels:
    return PgReadModels(provider)


async def append(
    provider: PoolProvider,
    histories: Sequence[Sequence[FlowEventKind]],
    clock: SetClock | None = None,
) -> list[UUID]:
    """Append flows that start a second apart."""
    clock = clock or SetClock()
    store = PgEventStore(provider, clock=clock)
    flow_ids = []
    for history in histories:
        flow_ids.append(new_flow_id())
        await store.append_kinds(flow_ids[-1], [initialized(), *history], expected_version=0)
        clock.time += timedelta(seconds=1)
    await store.aclose()
    return flow_ids


@pytest.mark.parametrize("name", HISTORIES)
async def test_a_flow_is_summed_up(provider: PoolProvider, models: PgReadModels, name: str) -> None:
    history, (state, cursor, current_step, failure) = HISTORIES[name]
    (flow_id,) = await append(provider, [history])
    flow = await models.flow(flow_id)
    assert flow is not None
    assert (flow.state, flow.cursor, flow.current_step, flow.failure) == (
        state,
        cursor,
        current_step,
        failure,
    )
    assert (flow.definition_hash, flow.step_count) == (DEFINITION.definition_hash, 3)
    assert (flow.finished_steps, flow.version) == (cursor, len(history) + 1)
    assert (flow.started_at, flow.last_event_at) == (BEGIN, BEGIN)


async def test_a_list_in_a_state_is_the_list_of_all_without_the_others(
    provider: PoolProvider, models: PgReadModels
) -> None:
    await append(provider, [history for history, _ in HISTORIES.values()] * 2)
    everything = await models.flows()
    assert len(everything) == 2 * len(HISTORIES)
    for state in FlowState:
        expected = [flow for flow in everything if flow.state is state]
        assert expected
        assert await models.flows(state=state) == expected
        assert await models.flows(state=state, limit=1) == expected[:1]
        assert await models.flows(state=state, before=expected[0]) == expected[1:]


async def test_each_flow_of_the_list_is_what_the_flow_by_itself_is(
    provider: PoolProvider, models: PgReadModels
) -> None:
    await append(provider, [history for history, _ in HISTORIES.values()])
    for flow in await models.flows():
        assert await models.flow(flow.flow_id) == flow


async def test_the_newest_come_first_and_the_pages_meet(
    provider: PoolProvider, models: PgReadModels
) -> None:
    flow_ids = await append(provider, [[]] * 7)
    pages, before = [], None
    while page := await models.flows(before=before, limit=3):
        pages.append([flow.flow_id for flow in page])
        before = page[-1]
    newest = flow_ids[::-1]
    assert pages == [newest[:3], newest[3:6], newest[6:]]


async def test_flows_of_one_moment_are_paged_by_id(
    provider: PoolProvider, models: PgReadModels
) -> None:
    store = PgEventStore(provider, clock=SetClock())
    flow_ids = [new_flow_id() for _ in range(9)]
    for flow_id in flow_ids:
        await store.append_kind(flow_id, initialized())
    listed, before = [], None
    while page := await models.flows(before=before, limit=2):
        listed += [flow.flow_id for flow in page]
        before = page[-1]
    assert listed == sorted(flow_ids, reverse=True)


async def test_only_the_flows_of_a_definition_are_listed(
    provider: PoolProvider, models: PgReadModels
) -> None:
    await append(provider, [[]] * 2)
    assert len(await models.flows(definition_hash=DEFINITION.definition_hash)) == 2
    assert await models.flows(definition_hash="0" * 64) == []


async def test_only_the_flows_that_no_other_flow_runs_are_listed(
    provider: PoolProvider, models: PgReadModels
) -> None:
    parents = await append(provider, [[]] * 3)
    store, child = PgEventStore(provider), new_flow_id()
    begins = replace(initialized(), parent=FlowParent(parents[0], 0, 0))
    await store.append_kind(child, begins)
    assert [flow.flow_id for flow in await models.flows(roots=True)] == parents[::-1]
    for state in FlowState:
        listed = await models.flows(state=state)
        roots = [flow for flow in listed if flow.parent is None]
        assert await models.flows(state=state, roots=True) == roots
    assert child in {flow.flow_id for flow in await models.flows()}


async def test_flows_are_listed_by_the_beginning_of_their_label(
    provider: PoolProvider, models: PgReadModels
) -> None:
    store = PgEventStore(provider)
    labels = ["batch 1", "batch 2", "Batch 3", "b", "ba%", None]
    flow_ids = {label: new_flow_id() for label in labels}
    for label, flow_id in flow_ids.items():
        begins = initialized() if label is None else replace(initialized(), label=label)
        await store.append_kind(flow_id, begins)
    for beginning in ("batch", "batch 2", "b", "ba%", "%", "Batch", "c", ""):
        listed = await models.flows(label=beginning)
        expected = [label for label in labels if label is not None and label.startswith(beginning)]
        assert [flow.label for flow in listed] == expected[::-1]
        assert await models.flows(label=beginning, state="pending") == listed
        assert await models.flows(label=beginning, state="failed") == []
        assert await models.flows(label=beginning, limit=1) == listed[:1]
        assert (
            await models.flows(label=beginning, before=listed[0] if listed else None)
            == (listed[1:])
        )
        assert await models.flows(label=beginning, definition_hash="0" * 64) == []


async def test_flows_that_began_before_a_time_are_listed(
    provider: PoolProvider, models: PgReadModels
) -> None:
    await append(provider, [[]] * 3)
    newest, *others = await models.flows()
    assert await models.flows(before=newest.started_at) == [
        flow for flow in others if flow.started_at < newest.started_at
    ]
    assert await models.flows(before=newest.started_at + timedelta(microseconds=1)) == [
        newest,
        *others,
    ]


async def test_a_flow_that_does_not_begin_with_its_initialization_has_no_definition(
    provider: PoolProvider, models: PgReadModels
) -> None:
    flow_id = new_flow_id()
    await PgEventStore(provider).append_kind(flow_id, StepSignal(0, "acquire", "said"))
    (flow,) = await models.flows()
    assert (flow.flow_id, flow.state, flow.definition_hash, flow.step_count) == (
        flow_id,
        "pending",
        None,
        None,
    )


async def test_a_flow_without_events_has_no_summary(models: PgReadModels) -> None:
    assert await models.flow(new_flow_id()) is None
    assert await models.step_executions(new_flow_id()) == []
    assert await models.flows() == []


async def test_step_executions_are_what_the_replay_says(
    provider: PoolProvider, models: PgReadModels
) -> None:
    history: list[FlowEventKind] = [
        started(0),
        failed(0),
        retried(0, 1),
        started(0),
        finished(0),
        started(1),
    ]
    (flow_id,) = await append(provider, [history])
    first, second = await models.step_executions(flow_id)
    assert (first.flow_id, first.step_index, first.step_id) == (flow_id, 0, "acquire")
    assert (first.status, first.attempts, first.retry_count) == (StepStatus.FINISHED, 2, 1)
    assert (first.fingerprint, first.error, first.finished_at) == (F, BROKEN, BEGIN)
    assert (second.status, second.attempts, second.finished_at) == (StepStatus.RUNNING, 1, None)


async def test_each_failure_has_its_own_attempt(
    provider: PoolProvider, models: PgReadModels
) -> None:
    other = StepError("KeyError", "'x'")
    history: list[FlowEventKind] = [
        *(started(0), started(0), failed(0)),  # a process died in the first attempt
        *(retried(0, 1), started(0), failed(0, other), retried(0, 2), started(0), finished(0)),
        *(started(1), failed(1)),
    ]
    (flow_id,) = await append(provider, [history])
    errors = await models.step_errors(flow_id)
    assert [(error.step_id, error.attempt, error.error) for error in errors] == [
        ("compute", 1, BROKEN),
        ("acquire", 3, other),
        ("acquire", 2, BROKEN),
    ]
    assert [error.version for error in errors] == [11, 6, 3]
    assert {(error.flow_id, error.failed_at, error.fingerprint) for error in errors} == {
        (flow_id, BEGIN, F)
    }


async def test_a_failure_that_was_never_started_is_attempt_0(
    provider: PoolProvider, models: PgReadModels
) -> None:
    (flow_id,) = await append(provider, [[failed(0)]])
    assert [error.attempt for error in await models.step_errors(flow_id)] == [0]


async def test_the_errors_of_all_flows_come_newest_first_and_their_pages_meet(
    provider: PoolProvider, models: PgReadModels
) -> None:
    flow_ids = await append(provider, [[started(0), failed(0)]] * 5)
    pages, before = [], None
    while page := await models.step_errors(before=before, limit=2):
        pages.append([error.flow_id for error in page])
        before = page[-1]
    newest = flow_ids[::-1]
    assert pages == [newest[:2], newest[2:4], newest[4:]]
    assert [error.flow_id for error in await models.step_errors(flow_ids[2])] == [flow_ids[2]]


async def test_what_cannot_be_asked_is_refused(models: PgReadModels) -> None:
    for question in (
        models.flows(state="broken"),
        models.flows(limit=-1),
        models.flow(UUID(int=0)),
        models.step_executions(UUID(int=0)),
        models.step_errors(limit=-1),
        models.producers("A" * 64),
        models.consumers("short"),
        models.ancestors("a" * 64, depth=-1),
        models.descendants("a" * 64, limit=-1),
        models.rebuild("event_log"),
    ):
        with pytest.raises(InvalidArgument):
            await question


async def tampered(admin_url: str, *statements: str) -> None:
    intruder = await asyncpg.connect(admin_url)
    await intruder.execute("SET session_replication_role = replica")
    for statement in statements:
        await intruder.execute(statement)
    await intruder.close()


async def test_a_time_that_no_datetime_can_hold_is_told(
    provider: PoolProvider, models: PgReadModels, admin_url: str
) -> None:
    (flow_id,) = await append(provider, [[started(0), failed(0)]])
    await tampered(admin_url, "UPDATE event_log SET ts = 'infinity' WHERE version = 2")
    for question in (models.flow(flow_id), models.step_errors(flow_id), models.step_errors()):
        with pytest.raises(UnreadableEvent) as caught:
            await question
        assert (caught.value.flow_id, caught.value.version) == (flow_id, 2)


async def test_a_malformed_failure_is_reported(
    provider: PoolProvider, models: PgReadModels, admin_url: str
) -> None:
    (flow_id,) = await append(provider, [[started(0), failed(0)]])
    await tampered(
        admin_url,
        """UPDATE event_log SET payload = payload - 'error' || '{"error": 1}' WHERE version = 2""",
        "UPDATE workflow_step_executions SET error = '1'",
    )
    for question in (models.flows(), models.step_errors(), models.step_executions(flow_id)):
        with pytest.raises(UnreadableEvent):
            await question


async def test_questions_are_answered_while_flows_are_appended(
    provider: PoolProvider, models: PgReadModels
) -> None:
    writing = asyncio.gather(*(append(provider, [TO_THE_END] * 10) for _ in range(4)))
    while not writing.done():
        for flow in await models.flows():
            assert (flow.state, flow.version) == (FlowState.COMPLETED, 8)
    assert len(await models.flows()) == 40


@settings(
    deadline=None,
    derandomize=True,
    max_examples=examples(60),
    suppress_health_check=list(HealthCheck),
    database=None,
)
@given(kinds=legal_kinds())
async def test_a_summary_is_what_the_replay_says(
    provider: PoolProvider, models: PgReadModels, kinds: list[FlowEventKind]
) -> None:
    flow_id = new_flow_id()
    await PgEventStore(provider).append_kinds(flow_id, kinds)
    instance = await PgFlowRepository(provider).load(flow_id, None, DEFINITION)
    flow = await models.flow(flow_id)
    assert flow is not None
    assert (flow.version, flow.cursor) == (instance.version, instance.cursor)
    assert (flow.state is FlowState.COMPLETED) is instance.completed
    statuses = [slot.status for slot in instance.steps]
    assert flow.finished_steps == statuses.count(StepStatus.FINISHED)
    assert (flow.state is FlowState.CANCELLED) is (instance.cancelled is not None)
    if not instance.completed and instance.cancelled is None:
        assert (flow.state is FlowState.FAILED) is (StepStatus.FAILED in statuses)
        assert (flow.state is FlowState.AWAITING_USER_INPUT) is (
            StepStatus.AWAITING_USER_INPUT in statuses
        )
    if instance.cursor < len(instance.steps):
        slot = instance.steps[instance.cursor]
        assert flow.current_step == (slot.step_id if slot.attempts else None)
        assert flow.failure == (slot.error if slot.status is StepStatus.FAILED else None)
