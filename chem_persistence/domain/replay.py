"""Replay: a flow's state is nothing but the fold of its events."""

from collections.abc import Iterable
from typing import assert_never

from msgspec.structs import replace

from chem_persistence.domain.definition import FlowDefinition
from chem_persistence.domain.events import (
    BranchCreated,
    FlowCompleted,
    FlowEvent,
    FlowInitialized,
    PropertyPreferenceAssigned,
    RetryScheduled,
    StepFailed,
    StepFinished,
    StepSignal,
    StepStarted,
    UserInteractionProvided,
    UserInteractionRequested,
)
from chem_persistence.domain.instance import FlowInstance, StepSlot, StepStatus
from chem_persistence.errors import DefinitionMismatch, UnreplayableEvent

__all__ = ["replay"]


def replay(instance: FlowInstance, events: Iterable[FlowEvent], definition: FlowDefinition) -> FlowInstance:
    """Give the state after `events`, which follow the ones that `instance` has already seen.

    Raises:
        DefinitionMismatch: the flow was started with another definition.
        UnreplayableEvent: an event of another flow or out of its place, one that names a step which the definition
            lacks, or a retry of a step that has not failed or is not the next one.
    """
    slots = list(instance.steps)
    version, completed, flow_input = instance.version, instance.completed, instance.input
    for event in events:
        if event.flow_id != instance.id or event.version != version:
            raise UnreplayableEvent(
                instance.id, version, f"expected here, got {event.flow_id} {event.version}"
            )
        match event.kind:
            case FlowInitialized() as kind:
                if kind.definition_hash != definition.definition_hash:
                    raise DefinitionMismatch(instance.id, definition.definition_hash, kind.definition_hash)
                flow_input = kind.input
            case StepStarted() | StepFinished() | StepFailed() as kind:
                index = _index_of(event, kind.step_index, kind.step_id, slots)
                slots[index] = _after_attempt(slots[index], kind, event)
            case UserInteractionRequested() as kind:
                index = _index_of(event, kind.step_index, kind.step_id, slots)
                slots[index] = replace(slots[index], status=StepStatus.AWAITING_USER_INPUT)
            case UserInteractionProvided() as kind:
                index = _index_of(event, kind.step_index, kind.step_id, slots)
                slots[index] = replace(slots[index], status=StepStatus.PENDING)
            case RetryScheduled() as kind:
                index = _retried_index(event, kind, slots)
                slots[index] = replace(slots[index], status=StepStatus.PENDING, retry_count=kind.retry_index)
            case FlowCompleted():
                completed = True
            case StepSignal() as kind:
                _index_of(event, kind.step_index, kind.step_id, slots)
            case PropertyPreferenceAssigned() | BranchCreated():
                pass
            case _ as never:
                assert_never(never)
        version += 1
    return replace(instance, version=version, steps=tuple(slots), completed=completed, input=flow_input)


def _after_attempt(
    slot: StepSlot, kind: StepStarted | StepFinished | StepFailed, event: FlowEvent
) -> StepSlot:
    match kind:
        case StepStarted():
            return replace(slot, status=StepStatus.RUNNING, attempts=slot.attempts + 1, started_at=event.ts)
        case StepFinished():
            return replace(
                slot,
                status=StepStatus.FINISHED,
                fingerprint=kind.fingerprint,
                outputs=kind.outputs,
                finished_at=event.ts,
            )
        case StepFailed():
            return replace(slot, status=StepStatus.FAILED, error=kind.error)
        case _ as never:
            assert_never(never)


def _index_of(event: FlowEvent, step_index: int, step_id: str, slots: list[StepSlot]) -> int:
    if step_index >= len(slots) or slots[step_index].step_id != step_id:
        raise UnreplayableEvent(
            event.flow_id, event.version, f"the definition has no step {step_index} with the id {step_id!r}"
        )
    return step_index


def _retried_index(event: FlowEvent, kind: RetryScheduled, slots: list[StepSlot]) -> int:
    for index, slot in enumerate(slots):
        if slot.step_id != kind.step_id:
            continue
        if slot.status is not StepStatus.FAILED:
            raise UnreplayableEvent(event.flow_id, event.version, f"step {kind.step_id!r} has not failed")
        if kind.retry_index != slot.retry_count + 1:
            raise UnreplayableEvent(
                event.flow_id, event.version, f"retry {kind.retry_index} follows retry {slot.retry_count}"
            )
        return index
    raise UnreplayableEvent(event.flow_id, event.version, f"the definition has no step {kind.step_id!r}")
