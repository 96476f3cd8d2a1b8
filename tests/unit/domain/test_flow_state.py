"""Every fold of a flow's events leads to the same state of the flow."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

from hypothesis import given, settings
from hypothesis import strategies as st

from chem_persistence import ChemPersistenceError, FlowEvent, FlowEventKind, StepStatus
from chem_persistence.domain.flow_state import FlowState, flow_state, state_of_instance
from chem_persistence.domain.instance import initial_instance
from chem_persistence.domain.replay import replay
from chem_persistence.domain.step_rows import execution_changes
from chem_persistence.views.attempts import FlowAttempts
from chem_persistence.views.flow_view import PageLimits
from chem_persistence.views.observed_flow import replay_observed
from tests.support.examples import examples
from tests.support.flows.flows import DEFINITION
from tests.support.flows.histories import PLAUSIBLE_KINDS, legal_kinds

FLOW_ID = UUID(int=42)
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
BOUNDED = settings(deadline=None, derandomize=True, database=None, max_examples=examples(200))


def events(kinds: list[FlowEventKind]) -> list[FlowEvent]:
    return [
        FlowEvent(
            seq=version + 1,
            flow_id=FLOW_ID,
            version=version,
            event_id=UUID(int=version + 1),
            ts=BEGIN + timedelta(seconds=version),
            kind=kind,
        )
        for version, kind in enumerate(kinds)
    ]


def state_for_people(history: list[FlowEvent]) -> FlowState:
    attempts = FlowAttempts(PageLimits(attempts=1, signals=1))
    for event in history:
        attempts.take(event)
    return attempts.state


def state_of_rows(history: list[FlowEvent]) -> FlowState:
    _, steps = execution_changes((event.kind, event.ts) for event in history)
    letters = {event.variant for event in history}
    statuses = (step.status for step in steps)
    return flow_state(statuses, completed="C" in letters, cancelled="K" in letters)


@BOUNDED
@given(kinds=st.one_of(legal_kinds(), PLAUSIBLE_KINDS))
def test_every_fold_of_a_history_leads_to_the_same_state(kinds: list[FlowEventKind]) -> None:
    history = events(kinds)
    for length in range(1, len(history) + 1):
        part = history[:length]
        assert state_for_people(part) is state_of_rows(part)
        try:
            instance = replay(initial_instance(FLOW_ID, DEFINITION), part, DEFINITION)
        except ChemPersistenceError:
            continue
        assert state_for_people(part) is state_of_instance(instance)
        assert state_for_people(part) is replay_observed(FLOW_ID, part).state


def test_the_end_decides_first_then_a_failure_then_a_question_then_a_wait() -> None:
    left = set(StepStatus)
    assert flow_state(left, completed=True, cancelled=True) is FlowState.COMPLETED
    assert flow_state(left, completed=False, cancelled=True) is FlowState.CANCELLED
    assert flow_state(left, completed=False) is FlowState.FAILED
    left -= {StepStatus.FAILED}
    assert flow_state(left, completed=False) is FlowState.AWAITING_USER_INPUT
    left -= {StepStatus.AWAITING_USER_INPUT}
    assert flow_state(left, completed=False) is FlowState.WAITING
    left -= {StepStatus.WAITING}
    assert flow_state(left, completed=False) is FlowState.RUNNING


def test_a_flow_is_pending_until_a_step_begins_and_running_between_two_steps() -> None:
    assert flow_state((), completed=False) is FlowState.PENDING
    assert flow_state({StepStatus.FINISHED}, completed=False) is FlowState.RUNNING
    assert flow_state({StepStatus.PENDING}, completed=False) is FlowState.RUNNING
