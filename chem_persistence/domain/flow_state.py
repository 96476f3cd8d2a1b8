"""The state of a flow, decided from the states of its steps.

This is the only place in Python that decides it. The view `flows` decides the same in SQL, so
that a list can be filtered in the database; a test compares the two over generated histories.
"""

from collections.abc import Iterable
from enum import StrEnum

from chem_persistence.domain.instance import FlowInstance, StepStatus

__all__ = ["FlowState", "flow_state", "state_of_instance"]


class FlowState(StrEnum):
    """The state of a flow; a flow whose process died is running, as the next process resumes it.

    In a pending flow no step has begun; a waiting one goes on at some time, or when something
    happens to it.
    """

    PENDING = "pending"
    RUNNING = "running"
    WAITING = "waiting"
    AWAITING_USER_INPUT = "awaiting_user_input"
    FAILED = "failed"
    COMPLETED = "completed"
    CANCELLED = "cancelled"


_DECISIVE = (
    (StepStatus.FAILED, FlowState.FAILED),
    (StepStatus.AWAITING_USER_INPUT, FlowState.AWAITING_USER_INPUT),
    (StepStatus.WAITING, FlowState.WAITING),
)
"""The statuses of one step that decide the state of the flow, the first one that is found."""


def flow_state(
    statuses: Iterable[StepStatus], *, completed: bool, cancelled: bool = False
) -> FlowState:
    """Return the state of a flow whose steps that have begun have these statuses.

    A step has begun if an event started it, ended it, let it wait, or asked or answered for it.
    `completed` is whether the flow has a `FlowCompleted`, `cancelled` whether it has a
    `FlowCancelled`. A failed step decides before one that awaits an answer or a time, because no
    step runs until its retry is scheduled.
    """
    if completed:
        return FlowState.COMPLETED
    if cancelled:
        return FlowState.CANCELLED
    found = set(statuses)
    for status, state in _DECISIVE:
        if status in found:
            return state
    return FlowState.RUNNING if found else FlowState.PENDING


def state_of_instance(instance: FlowInstance) -> FlowState:
    """Return the state of a replayed flow."""
    return flow_state(
        (slot.status for slot in instance.steps if slot.has_begun),
        completed=instance.completed,
        cancelled=instance.cancelled is not None,
    )
