"""Replay, rule by rule."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from msgspec.structs import replace

from chem_persistence import (
    BranchCreated,
    DefinitionMismatch,
    FlowCancelled,
    FlowCompleted,
    FlowDefinition,
    FlowEvent,
    FlowEventKind,
    FlowInitialized,
    FlowInstance,
    PropertyPreferenceAssigned,
    RetryScheduled,
    StepAnswer,
    StepDefinition,
    StepError,
    StepFailed,
    StepFinished,
    StepSignal,
    StepSlot,
    StepStarted,
    StepStatus,
    StepWaits,
    UnreplayableEvent,
    UserInteractionProvided,
    UserInteractionRequested,
)
from chem_persistence.domain.events import EVENT_KINDS, RELEASED, event_type
from chem_persistence.domain.instance import initial_instance
from chem_persistence.domain.replay import replay, replay_facts
from tests.support.flows.flows import DEFINITION, initialized

FLOW_ID = UUID(int=42)
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
ERROR = StepError("ValueError", "no atoms")
OTHER_ERROR = StepError("TypeError", "no bonds", "line 1")

STARTED = StepStarted(0, "acquire")
FINISHED = StepFinished(0, "acquire", ("a" * 64, "b" * 64), "f" * 64)
FAILED = StepFailed(0, "acquire", ERROR, "f" * 64)
REQUESTED = UserInteractionRequested(0, "acquire", {"type": "string"})
PROVIDED = UserInteractionProvided(0, "acquire", "yes", "d" * 64)
LATER = datetime(2026, 1, 2, tzinfo=UTC)
WAITS = StepWaits(0, "acquire", LATER, {"job": "4711"})
CANCELLED = FlowCancelled("no longer needed")
SIGNAL = StepSignal(0, "acquire", "progress", {"done": 0.5})
PREFERENCE = PropertyPreferenceAssigned("logP", "cheapest", "c" * 64, "because")
BRANCH = BranchCreated(UUID(int=2), FLOW_ID, FLOW_ID, "acquire")


def retry(index: int, step_id: str = "acquire") -> RetryScheduled:
    return RetryScheduled(step_id, index, "again")


def minute(version: int) -> datetime:
    return BEGIN + timedelta(minutes=version)


def events(*kinds: FlowEventKind, first_version: int = 0) -> list[FlowEvent]:
    return [
        FlowEvent(
            seq=100 + version,
            flow_id=FLOW_ID,
            version=version,
            event_id=UUID(int=version + 1),
            ts=minute(version),
            kind=kind,
            metadata={"noise": version},
        )
        for version, kind in enumerate(kinds, start=first_version)
    ]


def replayed(*kinds: FlowEventKind) -> FlowInstance:
    return replay(initial_instance(FLOW_ID, DEFINITION), events(*kinds), DEFINITION)


def first_slot(*kinds: FlowEventKind) -> StepSlot:
    return replayed(*kinds).steps[0]


def unreplayable(kinds: Sequence[FlowEventKind]) -> UnreplayableEvent:
    with pytest.raises(UnreplayableEvent) as caught:
        replayed(*kinds)
    assert caught.value.flow_id == FLOW_ID
    return caught.value


def test_before_the_first_event_every_step_is_pending() -> None:
    instance = replayed()
    assert instance == FlowInstance(
        id=FLOW_ID,
        version=0,
        steps=tuple(StepSlot(step_id=step_id) for step_id in ("acquire", "compute", "report")),
    )
    assert instance.cursor == 0


def test_a_flow_begins_with_its_definition_and_input() -> None:
    instance = replayed(FlowInitialized(DEFINITION.definition_hash, 3, "a" * 64))
    assert (instance.version, instance.input, instance.completed) == (1, "a" * 64, False)
    assert {slot.status for slot in instance.steps} == {StepStatus.PENDING}


def test_a_flow_of_another_definition_is_refused() -> None:
    other = FlowDefinition((StepDefinition("acquire"),))
    with pytest.raises(DefinitionMismatch) as caught:
        replayed(initialized(other))
    error = caught.value
    assert (error.flow_id, error.expected, error.actual) == (
        FLOW_ID,
        DEFINITION.definition_hash,
        other.definition_hash,
    )


def test_a_start_makes_a_step_running() -> None:
    assert first_slot(initialized(), STARTED) == StepSlot(
        step_id="acquire", status=StepStatus.RUNNING, attempts=1, started_at=minute(1), starts=1
    )


def test_a_second_start_is_a_second_attempt() -> None:
    slot = first_slot(initialized(), STARTED, STARTED)
    assert (slot.status, slot.attempts, slot.started_at) == (StepStatus.RUNNING, 2, minute(2))


def test_a_finished_step_has_its_fingerprint_outputs_and_time() -> None:
    assert first_slot(initialized(), STARTED, FINISHED) == StepSlot(
        step_id="acquire",
        status=StepStatus.FINISHED,
        fingerprint="f" * 64,
        outputs=("a" * 64, "b" * 64),
        started_at=minute(1),
        finished_at=minute(2),
        attempts=1,
    )


def test_a_failed_step_has_its_error() -> None:
    assert first_slot(initialized(), STARTED, FAILED) == StepSlot(
        step_id="acquire", status=StepStatus.FAILED, started_at=minute(1), attempts=1, error=ERROR
    )


def test_a_retry_makes_a_failed_step_pending_and_is_counted() -> None:
    slot = first_slot(initialized(), STARTED, FAILED, retry(1))
    assert (slot.status, slot.retry_count, slot.attempts, slot.error) == (
        StepStatus.PENDING,
        1,
        1,
        ERROR,
    )


def test_a_step_may_fail_and_be_retried_until_it_succeeds() -> None:
    second_failure = replace(FAILED, error=OTHER_ERROR)
    slot = first_slot(
        initialized(),
        STARTED,
        FAILED,
        retry(1),
        STARTED,
        second_failure,
        retry(2),
        STARTED,
        FINISHED,
    )
    assert (slot.status, slot.retry_count, slot.attempts) == (StepStatus.FINISHED, 2, 3)
    assert (slot.error, slot.started_at, slot.finished_at) == (OTHER_ERROR, minute(7), minute(8))


def test_a_question_makes_a_step_wait_and_the_answer_makes_it_pending() -> None:
    waiting = first_slot(initialized(), STARTED, REQUESTED)
    assert (waiting.status, waiting.attempts) == (StepStatus.AWAITING_USER_INPUT, 1)
    answered = first_slot(initialized(), STARTED, REQUESTED, PROVIDED)
    answer = StepAnswer("yes", "d" * 64)
    assert answered == replace(waiting, status=StepStatus.PENDING, answer=answer)


def test_a_wait_ends_an_attempt_and_keeps_its_time_and_its_data() -> None:
    running = first_slot(initialized(), STARTED)
    assert first_slot(initialized(), STARTED, WAITS) == replace(
        running, status=StepStatus.WAITING, until=LATER, data={"job": "4711"}, starts=0
    )


def test_a_step_that_waited_goes_on_without_a_start_or_begins_anew() -> None:
    waited: list[FlowEventKind] = [initialized(), STARTED, WAITS]
    following: list[tuple[FlowEventKind, StepStatus, int]] = [
        (FINISHED, StepStatus.FINISHED, 1),
        (FAILED, StepStatus.FAILED, 1),
        (StepWaits(0, "acquire", None, 7), StepStatus.WAITING, 1),
        (REQUESTED, StepStatus.AWAITING_USER_INPUT, 1),
        (STARTED, StepStatus.RUNNING, 2),
    ]
    for kind, status, attempts in following:
        slot = first_slot(*waited, kind)
        assert (slot.status, slot.attempts, slot.until) == (status, attempts, None)


def test_what_a_step_wrote_when_it_waited_stays_until_it_waits_again() -> None:
    kinds: list[FlowEventKind] = [initialized(), STARTED, WAITS, STARTED, FAILED, retry(1), STARTED]
    assert first_slot(*kinds).data == {"job": "4711"}
    assert first_slot(*kinds, StepWaits(0, "acquire", None)).data is None


def test_a_retry_has_the_time_before_which_it_does_not_begin() -> None:
    failed: list[FlowEventKind] = [initialized(), STARTED, FAILED]
    later = RetryScheduled("acquire", 1, "again", LATER)
    assert first_slot(*failed, later).until == LATER
    assert first_slot(*failed, later, STARTED).until is None
    assert first_slot(*failed, retry(1)).until is None


def test_a_question_has_the_time_until_which_it_waits_for_the_answer() -> None:
    asked: list[FlowEventKind] = [initialized(), STARTED, replace(REQUESTED, until=LATER)]
    assert first_slot(*asked).until == LATER
    assert first_slot(*asked, PROVIDED).until is None


def test_an_answer_counts_until_the_next_retry_or_question() -> None:
    answered: list[FlowEventKind] = [initialized(), STARTED, REQUESTED, PROVIDED, STARTED]
    assert first_slot(*answered).answer == StepAnswer("yes", "d" * 64)
    assert first_slot(*answered, FAILED).answer == StepAnswer("yes", "d" * 64)
    assert first_slot(*answered, FAILED, retry(1)).answer is None
    assert first_slot(*answered, REQUESTED).answer is None


@pytest.mark.parametrize("outcome", [FINISHED, FAILED, WAITS, REQUESTED], ids=event_type)
def test_starts_are_counted_since_the_last_outcome(outcome: FlowEventKind) -> None:
    begun: list[FlowEventKind] = [initialized(), STARTED, STARTED, STARTED]
    assert first_slot(*begun).starts == 3
    assert first_slot(*begun, outcome).starts == 0
    assert first_slot(*begun, outcome, STARTED).starts == 1


def test_a_start_that_a_stopping_worker_released_is_not_counted() -> None:
    released = StepSignal(0, "acquire", RELEASED)
    slot = first_slot(initialized(), STARTED, STARTED, released, STARTED)
    assert (slot.starts, slot.attempts, slot.status) == (2, 3, StepStatus.RUNNING)
    assert first_slot(initialized(), STARTED, released, released).starts == 0


def test_a_cancelled_flow_has_the_reason_and_its_steps_stay_as_they_are() -> None:
    before, after = replayed(initialized(), STARTED), replayed(initialized(), STARTED, CANCELLED)
    assert after == replace(before, version=3, cancelled="no longer needed")
    assert replayed(initialized(), FlowCancelled("")).cancelled == ""


@pytest.mark.parametrize("kind", [SIGNAL, PREFERENCE, BRANCH], ids=event_type)
def test_what_changes_no_state_may_follow_a_cancellation(kind: FlowEventKind) -> None:
    cancelled = replayed(initialized(), STARTED, CANCELLED)
    assert replayed(initialized(), STARTED, CANCELLED, kind) == replace(cancelled, version=4)


@pytest.mark.parametrize(
    "kind",
    [
        initialized(),
        STARTED,
        FINISHED,
        FAILED,
        WAITS,
        retry(1),
        REQUESTED,
        PROVIDED,
        FlowCompleted("e" * 64),
        CANCELLED,
    ],
    ids=event_type,
)
def test_nothing_else_may_follow_a_cancellation(kind: FlowEventKind) -> None:
    error = unreplayable([initialized(), STARTED, FAILED, CANCELLED, kind])
    assert error.version == 4
    assert error.reason == f"a {type(kind).__name__} follows the flow's cancellation"


def test_a_completed_flow_is_not_cancelled() -> None:
    assert unreplayable([initialized(), FlowCompleted("e" * 64), CANCELLED]).version == 2


@pytest.mark.parametrize("kind", [SIGNAL, PREFERENCE, BRANCH], ids=event_type)
def test_signals_preferences_and_branches_change_no_state(kind: FlowEventKind) -> None:
    before, after = replayed(initialized(), STARTED), replayed(initialized(), STARTED, kind)
    assert after == replace(before, version=3)


def test_a_completed_flow_is_completed() -> None:
    steps = [StepFinished(i, step.id, (), "f" * 64) for i, step in enumerate(DEFINITION.steps)]
    instance = replayed(initialized(), *steps, FlowCompleted("e" * 64))
    assert (instance.completed, instance.cursor, instance.version) == (True, 3, 5)


def test_the_cursor_is_the_first_step_that_is_not_finished() -> None:
    second_finished = StepFinished(1, "compute", (), "f" * 64)
    assert replayed(initialized(), STARTED).cursor == 0
    assert replayed(initialized(), second_finished).cursor == 0
    assert replayed(initialized(), FAILED).cursor == 0
    assert replayed(initialized(), REQUESTED).cursor == 0
    assert replayed(initialized(), FINISHED).cursor == 1
    assert replayed(initialized(), FINISHED, second_finished).cursor == 2


def test_other_steps_stay_as_they_are() -> None:
    before = replayed(initialized(), STARTED, FINISHED)
    after = replay(before, events(StepStarted(1, "compute"), first_version=3), DEFINITION)
    assert (after.steps[0], after.steps[2]) == (before.steps[0], before.steps[2])


@pytest.mark.parametrize(
    ("index", "step_id"), [(3, "acquire"), (1, "acquire"), (0, "unknown"), (10**9, "")]
)
def test_a_step_that_the_definition_lacks_is_refused(index: int, step_id: str) -> None:
    kinds: list[FlowEventKind] = [
        StepStarted(index, step_id),
        StepFinished(index, step_id, (), "f"),
        StepFailed(index, step_id, ERROR, "f"),
        StepSignal(index, step_id, "s"),
        UserInteractionRequested(index, step_id),
        UserInteractionProvided(index, step_id, 1, "d"),
        StepWaits(index, step_id, None),
    ]
    for kind in kinds:
        assert unreplayable([initialized(), STARTED, kind]).version == 2


def test_a_retry_of_a_step_that_the_definition_lacks_is_refused() -> None:
    assert unreplayable([initialized(), STARTED, FAILED, retry(1, "unknown")]).version == 3


@pytest.mark.parametrize(
    "kinds", [[], [STARTED], [STARTED, FINISHED], [STARTED, REQUESTED], [STARTED, FAILED, retry(1)]]
)
def test_a_retry_of_a_step_that_has_not_failed_is_refused(kinds: list[FlowEventKind]) -> None:
    error = unreplayable([initialized(), *kinds, retry(1)])
    assert error.version == len(kinds) + 1
    assert "has not failed" in error.reason


@pytest.mark.parametrize("index", [0, 2, 7])
def test_a_retry_that_is_not_the_next_one_is_refused(index: int) -> None:
    error = unreplayable([initialized(), STARTED, FAILED, retry(index)])
    assert (error.version, error.reason) == (3, f"retry {index} follows retry 0")


def test_the_same_retry_twice_is_refused() -> None:
    assert unreplayable([initialized(), FAILED, retry(1), FAILED, retry(1)]).version == 4


def test_an_event_of_another_flow_is_refused() -> None:
    history = events(initialized(), STARTED)
    history[1] = replace(history[1], flow_id=UUID(int=7))
    with pytest.raises(UnreplayableEvent) as caught:
        replay(initial_instance(FLOW_ID, DEFINITION), history, DEFINITION)
    assert (caught.value.flow_id, caught.value.version) == (FLOW_ID, 1)


@pytest.mark.parametrize("order", [[1], [0, 2], [1, 0], [0, 0], [0, 1, 1]])
def test_an_event_out_of_its_place_is_refused(order: list[int]) -> None:
    history = events(initialized(), STARTED, FINISHED)
    with pytest.raises(UnreplayableEvent) as caught:
        replay(
            initial_instance(FLOW_ID, DEFINITION), [history[place] for place in order], DEFINITION
        )
    assert caught.value.version == next(n for n, place in enumerate(order) if n != place)


GOES_ON: list[FlowEventKind] = [
    FlowInitialized(DEFINITION.definition_hash, 3, "a" * 64),
    STARTED,
    FAILED,
    retry(1),
    STARTED,
    REQUESTED,
    PROVIDED,
    STARTED,
    StepSignal(0, "acquire", "s"),
    PropertyPreferenceAssigned("logP", "cheapest", "c" * 64),
    BranchCreated(UUID(int=2), FLOW_ID, FLOW_ID, "acquire"),
    WAITS,
    FINISHED,
    StepStarted(1, "compute"),
]
ENDED = [[*GOES_ON, FlowCompleted("e" * 64)], [*GOES_ON, CANCELLED]]


def test_the_histories_have_every_kind() -> None:
    assert {type(kind) for kinds in ENDED for kind in kinds} == set(EVENT_KINDS.values())


@pytest.mark.parametrize("kinds", ENDED)
def test_a_replay_that_goes_on_from_any_prefix_gives_the_same_as_one_of_all(
    kinds: list[FlowEventKind],
) -> None:
    history = events(*kinds)
    begin = initial_instance(FLOW_ID, DEFINITION)
    whole = replay(begin, history, DEFINITION)
    for cut in range(len(history) + 1):
        prefix = replay(begin, history[:cut], DEFINITION)
        assert prefix.version == cut
        assert replay(prefix, history[cut:], DEFINITION) == whole


def test_a_replay_does_not_change_the_instance_that_it_goes_on_from() -> None:
    before = replayed(initialized())
    replay(before, events(STARTED, first_version=1), DEFINITION)
    assert before == replayed(initialized())


def test_seq_event_id_and_metadata_do_not_matter() -> None:
    history = events(initialized(), STARTED, FINISHED)
    other = [replace(event, seq=1, event_id=UUID(int=99), metadata={}) for event in history]
    begin = initial_instance(FLOW_ID, DEFINITION)
    assert replay(begin, other, DEFINITION) == replay(begin, history, DEFINITION)


@pytest.mark.parametrize("kinds", ENDED)
def test_of_no_facts_but_starts_and_successes_does_a_state_show_the_time(
    kinds: list[FlowEventKind],
) -> None:
    begin, definition_hash = initial_instance(FLOW_ID, DEFINITION), DEFINITION.definition_hash
    timed = [(kind, minute(version)) for version, kind in enumerate(kinds)]
    shown = [
        (kind, ts if isinstance(kind, StepStarted | StepFinished) else None) for kind, ts in timed
    ]
    assert replay_facts(begin, shown, definition_hash) == replay_facts(
        begin, timed, definition_hash
    )
