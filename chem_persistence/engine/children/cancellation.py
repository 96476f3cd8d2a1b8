"""How a flow is cancelled by somebody who does not hold it, together with its children."""

from collections.abc import Sequence
from uuid import UUID

from msgspec import UNSET

from chem_persistence.domain.definition import BATCH_JOB, FlowDefinition
from chem_persistence.domain.events import (
    CANCEL,
    FlowCancelled,
    FlowCompleted,
    FlowEvent,
    FlowInitialized,
    LibrarySignal,
    StepFailed,
    StepFinished,
    StepSignal,
    StepStarted,
    StepWaits,
)
from chem_persistence.errors import FlowAlreadyCompleted, WorkerLost
from chem_persistence.store.definitions import read_definition
from chem_persistence.store.leasing.children import CHILDREN
from chem_persistence.store.ports import EventStore

__all__ = ["cancellation_fact"]


async def cancellation_fact(
    store: EventStore, flow_id: UUID, events: Sequence[FlowEvent], reason: str, *, force: bool
) -> FlowCancelled | LibrarySignal | None:
    """Return what cancels a flow with these events, or asks for it; None if either is there.

    A flow is only asked to end if it may have something to end first: it waits or has waited, or
    the step that runs, or whose worker was lost, is one with children or a batch job.

    Raises what `read_definition` raises, and:
        FlowAlreadyCompleted: the flow is completed.
    """
    facts = [event.kind for event in events]
    if any(isinstance(fact, FlowCompleted) for fact in facts):
        raise FlowAlreadyCompleted(flow_id)
    if any(isinstance(fact, FlowCancelled) for fact in facts):
        return None
    last = None if force else _with_more_to_end(facts)
    first = facts[0] if facts else None
    if isinstance(last, StepStarted) and isinstance(first, FlowInitialized):
        definition = await read_definition(store, first.definition_hash)
        if not _runs_elsewhere(definition, last.step_index):
            last = None
    if last is None:
        return FlowCancelled(reason)
    if any(isinstance(fact, StepSignal) and fact.signal == CANCEL for fact in facts):
        return None
    return LibrarySignal(last.step_index, last.step_id, CANCEL, {"reason": reason})


def _with_more_to_end(facts: Sequence[object]) -> StepWaits | StepStarted | None:
    """Return the last wait of a flow, or the start of the step that runs, or that lost its worker.

    None if there is none.

    A flow that was not given to workers has nobody who could end something for it.
    """
    if any(isinstance(fact, FlowInitialized) and fact.due is UNSET for fact in facts):
        return None
    waits = [fact for fact in facts if isinstance(fact, StepWaits)]
    if waits:
        return waits[-1]
    for fact in reversed(facts):
        if isinstance(fact, StepFinished | StepFailed) and not _lost_its_worker(fact):
            return None
        if isinstance(fact, StepStarted):
            return fact
    return None


def _lost_its_worker(fact: StepFinished | StepFailed) -> bool:
    lost = f"{WorkerLost.__module__}.{WorkerLost.__qualname__}"
    return isinstance(fact, StepFailed) and fact.error.error_class == lost


def _runs_elsewhere(definition: FlowDefinition | None, index: int) -> bool:
    if definition is None or index >= len(definition.steps):
        return False
    params = definition.steps[index].params
    return isinstance(params, dict) and (CHILDREN in params or BATCH_JOB in params)
