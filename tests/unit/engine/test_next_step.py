"""What an engine does next, decided from a flow's state alone."""

from datetime import UTC, datetime

import pytest
from msgspec.structs import replace

from chem_persistence import (
    FlowAlreadyCompleted,
    FlowDefinition,
    FlowHasFailed,
    FlowInstance,
    FlowWasCancelled,
    StepDefinition,
    StepFinished,
    StepStatus,
)
from chem_persistence.domain.fingerprints import flow_fingerprint
from chem_persistence.domain.instance import initial_instance
from chem_persistence.engine.next_step import (
    Await,
    Complete,
    Refuse,
    Run,
    after_steps,
    after_success,
    next_step,
)
from tests.support.flows.flows import new_flow_id

DEFINITION = FlowDefinition((StepDefinition("acquire"), StepDefinition("compute")))


def state(*statuses: StepStatus, completed: bool = False) -> FlowInstance:
    """Return a flow whose steps have these states; each finished one has two outputs."""
    instance = initial_instance(new_flow_id(), DEFINITION)
    slots = [
        replace(
            slot,
            status=status,
            attempts=index + 1,
            fingerprint="f" * 64,
            outputs=(f"{index}out", f"{index}more") if status is StepStatus.FINISHED else (),
        )
        for index, (slot, status) in enumerate(zip(instance.steps, statuses, strict=True))
    ]
    return replace(instance, steps=tuple(slots), completed=completed, input="in")


PENDING, RUNNING, FINISHED = StepStatus.PENDING, StepStatus.RUNNING, StepStatus.FINISHED
FAILED, AWAITING = StepStatus.FAILED, StepStatus.AWAITING_USER_INPUT


@pytest.mark.parametrize("status", [PENDING, RUNNING])
def test_a_step_that_is_not_finished_is_run(status: StepStatus) -> None:
    assert next_step(state(status, PENDING), DEFINITION) == Run(0, "acquire", "in", 1)
    assert next_step(state(FINISHED, status), DEFINITION) == Run(1, "compute", "0out", 2)


def test_a_step_after_one_without_outputs_has_no_input() -> None:
    instance = state(FINISHED, PENDING)
    silent = replace(instance, steps=(replace(instance.steps[0], outputs=()), instance.steps[1]))
    assert next_step(silent, DEFINITION) == Run(1, "compute", None, 2)


def test_a_flow_whose_steps_are_all_finished_is_completed_with_its_fingerprint() -> None:
    instance = state(FINISHED, FINISHED)
    fingerprint = flow_fingerprint(DEFINITION.definition_hash, instance)
    assert next_step(instance, DEFINITION) == Complete(fingerprint)


@pytest.mark.parametrize(
    ("index", "statuses"), [(0, (AWAITING, PENDING)), (1, (FINISHED, AWAITING))]
)
def test_a_step_that_asked_a_person_waits(index: int, statuses: tuple[StepStatus, ...]) -> None:
    step_id, instance = DEFINITION.steps[index].id, state(*statuses)
    given = next(iter(instance.steps[0].outputs), None) if index else instance.input
    assert next_step(instance, DEFINITION) == Await(index, step_id, given)


@pytest.mark.parametrize("until", [None, datetime(2026, 1, 1, tzinfo=UTC)])
def test_a_waiting_step_goes_on_and_when_is_not_decided_here(until: datetime | None) -> None:
    instance = state(FINISHED, StepStatus.WAITING)
    slots = (instance.steps[0], replace(instance.steps[1], until=until, attempts=2))
    decided = next_step(replace(instance, steps=slots), DEFINITION)
    assert decided == Run(1, "compute", next(iter(slots[0].outputs), None), 2, waits=True)


@pytest.mark.parametrize("statuses", [(FINISHED, FINISHED), (FINISHED, FAILED), (PENDING, PENDING)])
def test_a_cancelled_flow_is_refused_whatever_its_steps_are(
    statuses: tuple[StepStatus, ...],
) -> None:
    instance = replace(state(*statuses), cancelled="no longer needed")
    decided = next_step(instance, DEFINITION)
    assert isinstance(decided, Refuse)
    assert isinstance(decided.error, FlowWasCancelled)
    assert (decided.error.flow_id, decided.error.reason) == (instance.id, "no longer needed")


@pytest.mark.parametrize(
    ("step_id", "statuses"), [("acquire", (FAILED, PENDING)), ("compute", (FINISHED, FAILED))]
)
def test_a_failed_step_is_refused(step_id: str, statuses: tuple[StepStatus, ...]) -> None:
    instance = state(*statuses)
    decided = next_step(instance, DEFINITION)
    assert isinstance(decided, Refuse)
    assert isinstance(decided.error, FlowHasFailed)
    assert (decided.error.flow_id, decided.error.step_id) == (instance.id, step_id)


@pytest.mark.parametrize("statuses", [(FINISHED, FINISHED), (FINISHED, FAILED), (PENDING, PENDING)])
def test_a_completed_flow_is_refused_whatever_its_steps_are(
    statuses: tuple[StepStatus, ...],
) -> None:
    decided = next_step(state(*statuses, completed=True), DEFINITION)
    assert isinstance(decided, Refuse)
    assert isinstance(decided.error, FlowAlreadyCompleted)


@pytest.mark.parametrize("second", StepStatus)
def test_what_follows_a_success_is_what_comes_next_in_the_state_after_it(
    second: StepStatus,
) -> None:
    """Also when the step after it was begun, or is finished, out of order."""
    before = state(StepStatus.RUNNING, second)
    first = StepFinished(0, "acquire", ("out", "more"), "f" * 64)
    after = next_step(after_success(before, first), DEFINITION)
    followed = after_steps(before, [first], DEFINITION)
    assert type(followed) is type(after)
    assert str(followed) == str(after)


def test_what_follows_the_last_steps_is_the_completion() -> None:
    """Their fingerprints are those of the steps that have finished together."""
    before = state(StepStatus.RUNNING, StepStatus.PENDING)
    done = [
        StepFinished(0, "acquire", ("out",), "a" * 64),
        StepFinished(1, "compute", ("last",), "b" * 64),
    ]
    after = after_success(after_success(before, done[0]), done[1])
    assert after_steps(before, done, DEFINITION) == Complete(
        flow_fingerprint(DEFINITION.definition_hash, after)
    )
