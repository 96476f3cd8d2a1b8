"""The seal of a flow: its last event, which no other event may follow."""

from collections.abc import Sequence
from uuid import UUID

from chem_persistence.domain.events import (
    SEALED,
    FlowCancelled,
    FlowCompleted,
    FlowEventKind,
    FlowInitialized,
    LibrarySignal,
    StepFailed,
    StepFinished,
    StepSignal,
    StepStarted,
    StepWaits,
    UserInteractionProvided,
    UserInteractionRequested,
    is_seal,
)
from chem_persistence.errors import (
    FlowArchived,
    FlowNotCompleted,
    FlowNotFound,
    FlowSealed,
    InvalidArgument,
)
from chem_persistence.store.definitions import read_definition
from chem_persistence.store.ports import EventStore

__all__ = ["seal_flow"]

_OF_STEPS = (
    StepStarted,
    StepFinished,
    StepFailed,
    StepSignal,
    StepWaits,
    UserInteractionRequested,
    UserInteractionProvided,
)


async def seal_flow(store: EventStore, flow_id: UUID, *, actor: str | None = None) -> bool:
    """Seal a flow that is over, so that no event can follow; return False if it was sealed before.

    The seal is the last event of the flow: an append that was acknowledged is before it, and one
    that comes later raises `FlowSealed`. `actor` is who seals it.

    Raises:
        FlowNotFound: no flow has this id.
        FlowArchived: the flow was archived.
        FlowNotCompleted: the flow is neither completed nor cancelled.
        InvalidArgument: the flow was cancelled before its first step, and the store does not have
            its definition.
        HistoryLost: events of the flow that the store read or acknowledged are gone.
        UnreadableEvent: an event of the flow does not decode.
        StoreUnavailable, StoreError: the store cannot be reached, or refused.
    """
    facts = [event.kind for event in await store.list(flow_id)]
    if not facts:
        raise FlowNotFound(flow_id)
    if is_seal(facts[-1]):
        return False
    if not any(isinstance(fact, FlowCompleted | FlowCancelled) for fact in facts):
        raise FlowNotCompleted(flow_id)
    index, step_id = await _step(store, flow_id, facts)
    metadata = None if actor is None else {"actor": actor}
    try:  # whatever others append meanwhile: a flow that is over stays over
        await store.append_kind(flow_id, LibrarySignal(index, step_id, SEALED), metadata=metadata)
    except FlowArchived:
        raise
    except FlowSealed:
        return False
    return True


async def _step(
    store: EventStore, flow_id: UUID, facts: Sequence[FlowEventKind]
) -> tuple[int, str]:
    """Return the index and the id of the step that the seal names, as every signal names one."""
    for fact in reversed(facts):
        if isinstance(fact, _OF_STEPS):
            return fact.step_index, fact.step_id
    first = facts[0]
    if isinstance(first, FlowInitialized):
        definition = await read_definition(store, first.definition_hash)
        if definition is not None:
            return 0, definition.steps[0].id
    raise InvalidArgument("flow_id", f"flow {flow_id} names no step, and its definition is missing")
