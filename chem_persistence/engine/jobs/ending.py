"""What a flow with a batch job does before it is cancelled."""

from collections.abc import Sequence
from typing import Any

from chem_persistence.domain.events import FlowEventKind, StepFailed, StepFinished, StepWaits
from chem_persistence.engine.jobs.history import is_of_class
from chem_persistence.engine.jobs.step import BatchJob
from chem_persistence.engine.step import Wait
from chem_persistence.engine.watching import Later, Look, wait_until
from chem_persistence.errors import JobFailed

__all__ = ["end_job"]


async def end_job(
    step: BatchJob[Any, Any, Any], look: Look, outcome: Sequence[FlowEventKind]
) -> StepWaits | Later | None:
    """End the job of a step before its flow is cancelled; None if there is none any more.

    `outcome` is what was about to be appended. Return the wait that is to be appended instead, or
    how long to wait before this is called again. A wait that says which job there is comes first:
    it is the only trace of the job.
    """
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
