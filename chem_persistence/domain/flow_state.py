"""The state of a flow, decided from the states of its steps.

This is the only place in Python that decides it. The view `flows` decides the same in SQL, so
that a list can be filtered in the database; a test compares the two over generated histories.
"""

from collections.abc import Iterable
from enum import StrEnum

from chem_persistence.domain.instance import FlowInstance, StepStatus

__all__ = ["FlowState", "flow_state", "state_of_instance"]


class FlowState(StrEnum):
    """The state of a flow; a flow whose process died is running, as the next process resumes it."""

    RUNNING = "running"
    AWAITING_USER_INPUT = "awaiting_user_input"
    FAILED = "failed"
    COMPLETED = "completed"


def flow_state(statuses: Iterable[StepStatus], *, completed: bool) -> FlowState:
    """Return the state of a flow whose steps have these statuses.

    `completed` is whether the flow has a `FlowCompleted`. A failed step decides before one that
    awaits an answer, because no step runs until its retry is scheduled.
    """
    found = set(statuses)
    match (
        completed,
        StepStatus.FAILED in found,
        StepStatus.AWAITING_USER_INPUT in found,
    ):
        case True, _, _:
            return FlowState.COMPLETED
        case _, True, _:
            return FlowState.FAILED
        case _, _, True:
            return FlowState.AWAITING_USER_INPUT
        case _:
            return FlowState.RUNNING


def state_of_instance(instance: FlowInstance) -> FlowState:
    """Return the state of a replayed flow."""
    return flow_state((slot.status for slot in instance.steps), completed=instance.completed)
