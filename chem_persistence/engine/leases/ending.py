"""Why a flow is cancelled, and what is ended before: the children or the batch job of a step."""

from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

from chem_persistence.domain.events import (
    CANCEL,
    FlowEvent,
    FlowEventKind,
    StepFailed,
    StepFinished,
    StepSignal,
    StepWaits,
)
from chem_persistence.engine.children.family import Family
from chem_persistence.engine.children.step import ChildrenStep
from chem_persistence.engine.jobs.history import is_of_class
from chem_persistence.engine.jobs.step import BatchJob
from chem_persistence.engine.steps.step import Step, Wait
from chem_persistence.engine.watching import Later, Look, wait_until
from chem_persistence.errors import JobFailed

__all__ = ["cancellation", "cancelled_with", "end_step"]


def cancellation(events: Iterable[FlowEvent]) -> str | None:
    """Return the reason of the first signal that asks for the flow's cancellation, or None."""
    for event in events:
        if isinstance(event.kind, StepSignal) and event.kind.signal == CANCEL:
            data = event.kind.data
            reason = data.get("reason") if isinstance(data, dict) else data
            return reason if isinstance(reason, str) and reason else "cancelled"
    return None


def cancelled_with(parent: UUID) -> str:
    """Return the reason for which a child is cancelled whose parent is."""
    return f"its parent, flow {parent}, was cancelled"


async def end_step(
    step: Step[Any, Any], look: Look, outcome: Sequence[FlowEventKind], reason: str
) -> StepWaits | Later | None:
    """End what a step has begun, before its flow is cancelled; None if that is done.

    `outcome` is what was about to be appended. Return the wait that is to be appended instead, or
    that this is called again later. The worker that claims a child which is submitted meanwhile
    cancels it.

    Raises what `Family.cancel` and `EventStore.list` raise.
    """
    if isinstance(step, ChildrenStep):
        family = Family(look.store, look.flow_id, look.step_index, look.clock)
        await step.cancel_children(family, look.slot, reason)
    elif isinstance(step, BatchJob):
        return await _end_job(step, look, outcome)
    return None


async def _end_job(
    step: BatchJob[Any, Any, Any], look: Look, outcome: Sequence[FlowEventKind]
) -> StepWaits | Later | None:
    """End the job of a step; the wait that names a job, its only trace, is appended before that."""
    for fact in outcome:
        match fact:
            case StepWaits():
                return fact
            case StepFinished():
                return None
            case StepFailed() if is_of_class(fact, JobFailed):
                return None
            case _:
                pass
    left = await step.end(look)
    if isinstance(left, Wait):
        until = wait_until(left, look.clock)
        return StepWaits(look.step_index, look.slot.step_id, until, left.data)
    return left
