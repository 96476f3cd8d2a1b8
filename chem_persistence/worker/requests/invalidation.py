"""The invalidation of a step's result, after which no step takes it over."""

from collections.abc import Sequence
from uuid import UUID

from chem_persistence.domain.events import (
    INVALIDATED,
    FlowEvent,
    LibrarySignal,
    StepFinished,
    StepSignal,
)
from chem_persistence.errors import InvalidArgument

__all__ = ["invalidation"]


def invalidation(
    flow_id: UUID, step_id: str, events: Sequence[FlowEvent], reason: str
) -> LibrarySignal | None:
    """Return the signal that invalidates a step's result; None if it is invalid already.

    Raises:
        InvalidArgument: the step has no result, or took it over from another flow.
    """
    finished: StepFinished | None = None
    for event in events:
        match event.kind:
            case StepFinished() as fact if fact.step_id == step_id:
                finished = fact
            case StepSignal() as fact if fact.step_id == step_id and fact.signal == INVALIDATED:
                return None
            case _:
                pass
    if finished is None:
        raise InvalidArgument("step_id", f"step {step_id!r} of flow {flow_id} has no result")
    if finished.reused_from:
        origin = finished.reused_from.flow_id
        raise InvalidArgument(
            "step_id",
            f"step {step_id!r} of flow {flow_id} took its result over from flow {origin}: "
            "invalidate it there",
        )
    return LibrarySignal(finished.step_index, step_id, INVALIDATED, {"reason": reason})
