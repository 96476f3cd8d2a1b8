"""The attempts at steps and the state of the flow, folded from events."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from chem_persistence import (
    FlowCancelled,
    FlowCompleted,
    FlowEvent,
    FlowEventKind,
    ResultOrigin,
    RetryScheduled,
    StepError,
    StepFailed,
    StepFinished,
    StepSignal,
    StepStarted,
    StepWaits,
    UserInteractionProvided,
    UserInteractionRequested,
)
from chem_persistence.domain.events import INVALIDATED, SEALED
from chem_persistence.domain.flow_state import FlowState
from chem_persistence.views.attempts import FlowAttempts
from chem_persistence.views.flow_view import AttemptOutcome, Invalidation, PageLimits

BEGAN = datetime(2026, 11, 23, tzinfo=UTC)
ERROR = StepError("ValueError", "no")
START, FINISH = StepStarted(0, "embed"), StepFinished(0, "embed", (), "f")
FAIL, RETRY = StepFailed(0, "embed", ERROR, "f"), RetryScheduled("embed", 1, "again")
ASK, ANSWER = (
    UserInteractionRequested(0, "embed", None, "which?"),
    UserInteractionProvided(0, "embed", 1, "h"),
)
SIGNAL = StepSignal(0, "embed", "progress")
WAIT = StepWaits(0, "embed", BEGAN + timedelta(days=1))
CANCEL = FlowCancelled("no longer needed")


def attempts(*kinds: FlowEventKind, limits: PageLimits | None = None) -> FlowAttempts:
    """Fold events that are a second apart."""
    taken = FlowAttempts(limits or PageLimits())
    for version, kind in enumerate(kinds):
        ts = BEGAN + timedelta(seconds=version)
        taken.take(
            FlowEvent(
                seq=version,
                flow_id=UUID(int=1),
                version=version,
                event_id=UUID(int=2),
                ts=ts,
                kind=kind,
            )
        )
    return taken


@pytest.mark.parametrize(
    ("kinds", "state", "outcomes"),
    [
        ((START,), FlowState.RUNNING, [AttemptOutcome.OPEN]),
        ((START, FINISH), FlowState.RUNNING, [AttemptOutcome.FINISHED]),
        ((START, FINISH, FlowCompleted("f")), FlowState.COMPLETED, [AttemptOutcome.FINISHED]),
        ((START, FAIL), FlowState.FAILED, [AttemptOutcome.FAILED]),
        ((START, FAIL, RETRY), FlowState.RUNNING, [AttemptOutcome.FAILED]),
        (
            (START, FAIL, RETRY, START, FINISH),
            FlowState.RUNNING,
            [AttemptOutcome.FAILED, AttemptOutcome.FINISHED],
        ),
        ((START, START), FlowState.RUNNING, [AttemptOutcome.SUPERSEDED, AttemptOutcome.OPEN]),
        ((START, ASK), FlowState.AWAITING_USER_INPUT, [AttemptOutcome.ASKED]),
        ((START, ASK, ANSWER), FlowState.RUNNING, [AttemptOutcome.ASKED]),
        ((FINISH,), FlowState.RUNNING, [AttemptOutcome.FINISHED]),
        ((START, WAIT), FlowState.WAITING, [AttemptOutcome.WAITED]),
        ((START, WAIT, WAIT), FlowState.WAITING, [AttemptOutcome.WAITED]),
        ((START, WAIT, FINISH), FlowState.RUNNING, [AttemptOutcome.FINISHED]),
        ((START, WAIT, FAIL), FlowState.FAILED, [AttemptOutcome.FAILED]),
        ((START, WAIT, ASK), FlowState.AWAITING_USER_INPUT, [AttemptOutcome.ASKED]),
        (
            (START, WAIT, START, FINISH),
            FlowState.RUNNING,
            [AttemptOutcome.WAITED, AttemptOutcome.FINISHED],
        ),
        ((WAIT,), FlowState.WAITING, [AttemptOutcome.WAITED]),
        ((START, WAIT, CANCEL), FlowState.CANCELLED, [AttemptOutcome.WAITED]),
        ((START, FAIL, CANCEL), FlowState.CANCELLED, [AttemptOutcome.FAILED]),
    ],
)
def test_events_make_attempts(
    kinds: tuple[FlowEventKind, ...], state: FlowState, outcomes: list[AttemptOutcome]
) -> None:
    taken = attempts(*kinds)
    assert taken.state is state
    (step,) = taken.steps()
    assert [attempt.outcome for attempt in step.attempts] == outcomes
    assert [attempt.number for attempt in step.attempts] == list(range(1, len(outcomes) + 1))


def test_an_attempt_knows_its_times_its_error_and_its_answer() -> None:
    (step,) = attempts(START, SIGNAL, ASK, ANSWER, START, FAIL, RETRY).steps()
    asked, failed = step.attempts
    assert (asked.began, asked.last_sign, asked.ended, asked.answered) == tuple(
        BEGAN + timedelta(seconds=second) for second in range(4)
    )
    assert (asked.question, failed.error, step.retry_count) == ("which?", ERROR, 1)


def test_of_many_attempts_the_latest_are_kept_and_all_are_counted() -> None:
    kinds: list[FlowEventKind] = [START, SIGNAL]
    (step,) = attempts(*kinds * 9, limits=PageLimits(attempts=2, signals=3)).steps()
    assert (step.attempt_count, [attempt.number for attempt in step.attempts]) == (9, [8, 9])
    assert (step.signal_count, len(step.signals)) == (9, 3)


def test_steps_stand_in_the_order_of_the_definition() -> None:
    taken = attempts(StepStarted(1, "b"), StepStarted(0, "z"), StepStarted(0, "a"))
    assert [(step.index, step.id) for step in taken.steps()] == [(0, "a"), (0, "z"), (1, "b")]


def test_a_failed_step_decides_until_its_own_retry_is_scheduled() -> None:
    other = StepFailed(1, "dock", ERROR, "f")
    assert attempts(START, FAIL, StepStarted(1, "dock"), other, RETRY).state is FlowState.FAILED
    retried = attempts(START, FAIL, other, RETRY, RetryScheduled("dock", 1, "again"))
    assert retried.state is FlowState.RUNNING


def test_a_completed_flow_stays_completed() -> None:
    assert attempts(START, FINISH, FlowCompleted("f"), SIGNAL, START).state is FlowState.COMPLETED


def test_an_attempt_that_waited_ended_when_it_began_to_wait() -> None:
    (step,) = attempts(START, WAIT, SIGNAL, WAIT, START).steps()
    waited, latest = step.attempts
    assert (waited.ended, waited.until) == (BEGAN + timedelta(seconds=3), WAIT.until)
    assert (latest.outcome, latest.ended, latest.until) == (AttemptOutcome.OPEN, None, None)


def test_a_flow_without_a_step_that_began_is_pending_also_after_a_signal() -> None:
    assert attempts().state is FlowState.PENDING
    assert attempts(SIGNAL).state is FlowState.PENDING
    assert attempts(SIGNAL, CANCEL).state is FlowState.CANCELLED


def test_a_result_that_was_taken_over_is_no_attempt() -> None:
    origin = ResultOrigin(UUID(int=7), 2)
    taken = attempts(StepFinished(0, "embed", (), "f", origin))
    (step,) = taken.steps()
    assert (step.attempt_count, step.origin, taken.state) == (0, origin, FlowState.RUNNING)
    (shown,) = step.attempts
    assert (shown.number, shown.outcome) == (0, AttemptOutcome.REUSED)
    assert shown.began == shown.ended


def test_a_result_is_invalid_since_the_last_event_that_says_so() -> None:
    data = {"reason": "wrong units"}
    (step,) = attempts(START, FINISH, SIGNAL, StepSignal(0, "embed", INVALIDATED, data)).steps()
    invalid = Invalidation(BEGAN + timedelta(seconds=3), "", "wrong units")
    assert (step.invalidated, step.attempts[0].outcome) == (invalid, AttemptOutcome.FINISHED)
    (step,) = attempts(START, FINISH, StepSignal(0, "embed", INVALIDATED, 7)).steps()
    assert step.invalidated == Invalidation(BEGAN + timedelta(seconds=2), "", "")


def test_a_seal_is_no_signal_of_a_step() -> None:
    done = (START, FINISH, FlowCompleted("f"))
    sealed = attempts(*done, StepSignal(0, "embed", SEALED))
    assert sealed.steps() == attempts(*done).steps()
