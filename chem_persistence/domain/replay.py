"""Replay: the state of a flow is the fold of its events, and nothing else."""

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import TypeAlias, assert_never
from uuid import UUID

from msgspec.structs import replace

from chem_persistence.domain.definition import FlowDefinition
from chem_persistence.domain.events import (
    BranchCreated,
    FlowCompleted,
    FlowEvent,
    FlowEventKind,
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

__all__ = ["replay", "replay_facts"]

_StepFact: TypeAlias = (
    StepStarted
    | StepFinished
    | StepFailed
    | StepSignal
    | UserInteractionRequested
    | UserInteractionProvided
)


def replay(
    instance: FlowInstance, events: Iterable[FlowEvent], definition: FlowDefinition
) -> FlowInstance:
    """Return the state after `events`, which follow those that `instance` has seen already.

    The events of a flow may be replayed in any number of parts: the state is the same.

    Raises:
        DefinitionMismatch: the flow was started with another definition.
        UnreplayableEvent: an event is of another flow or has another version than the next one; it
            names a step that the definition does not have; or it is a retry of a step that has not
            failed, or not the next retry.
    """
    return replay_facts(instance, _facts_in_place(instance, events), definition.definition_hash)


def _facts_in_place(
    instance: FlowInstance, events: Iterable[FlowEvent]
) -> Iterator[tuple[FlowEventKind, datetime]]:
    for version, event in enumerate(events, start=instance.version):
        if event.version != version or event.flow_id != instance.id:
            raise UnreplayableEvent(
                instance.id,
                version,
                f"got version {event.version} of flow {event.flow_id} in place of this event",
            )
        yield event.kind, event.ts


def replay_facts(
    instance: FlowInstance,
    facts: Iterable[tuple[FlowEventKind, datetime | None]],
    definition_hash: str,
) -> FlowInstance:
    """Return the state after the flow's next facts, each with its time; see `replay`.

    The state has only the times of `StepStarted` and `StepFinished`: for other facts None will do.

    Raises:
        DefinitionMismatch, UnreplayableEvent: as `replay`.
    """
    slots = list(instance.steps)
    version, completed, flow_input = instance.version, instance.completed, instance.input
    for fact, ts in facts:
        match fact:  # the most frequent first
            case StepSignal():
                _index_of(fact, slots, instance.id, version)
            case StepStarted() | StepFinished() | StepFailed():
                index = _index_of(fact, slots, instance.id, version)
                slots[index] = _after_attempt(slots[index], fact, ts)
            case UserInteractionRequested():
                index = _index_of(fact, slots, instance.id, version)
                slots[index] = replace(slots[index], status=StepStatus.AWAITING_USER_INPUT)
            case UserInteractionProvided():
                index = _index_of(fact, slots, instance.id, version)
                slots[index] = replace(slots[index], status=StepStatus.PENDING)
            case RetryScheduled():
                index = _retried_index(fact, slots, instance.id, version)
                slots[index] = replace(
                    slots[index], status=StepStatus.PENDING, retry_count=fact.retry_index
                )
            case FlowInitialized():
                if fact.definition_hash != definition_hash:
                    raise DefinitionMismatch(instance.id, definition_hash, fact.definition_hash)
                flow_input = fact.input
            case FlowCompleted():
                completed = True
            case PropertyPreferenceAssigned() | BranchCreated():
                pass
            case _ as never:
                assert_never(never)
        version += 1
    return replace(
        instance, version=version, steps=tuple(slots), completed=completed, input=flow_input
    )


def _after_attempt(
    slot: StepSlot, fact: StepStarted | StepFinished | StepFailed, ts: datetime | None
) -> StepSlot:
    match fact:
        case StepStarted():
            return replace(
                slot, status=StepStatus.RUNNING, attempts=slot.attempts + 1, started_at=ts
            )
        case StepFinished():
            return replace(
                slot,
                status=StepStatus.FINISHED,
                fingerprint=fact.fingerprint,
                outputs=fact.outputs,
                finished_at=ts,
            )
        case StepFailed():
            return replace(slot, status=StepStatus.FAILED, error=fact.error)
        case _ as never:
            assert_never(never)


def _index_of(fact: _StepFact, slots: list[StepSlot], flow_id: UUID, version: int) -> int:
    index = fact.step_index
    if index >= len(slots) or slots[index].step_id != fact.step_id:
        raise UnreplayableEvent(
            flow_id, version, f"the definition has no step {index} with the id {fact.step_id!r}"
        )
    return index


def _retried_index(fact: RetryScheduled, slots: list[StepSlot], flow_id: UUID, version: int) -> int:
    for index, slot in enumerate(slots):
        if slot.step_id != fact.step_id:
            continue
        if slot.status is not StepStatus.FAILED:
            raise UnreplayableEvent(flow_id, version, f"step {fact.step_id!r} has not failed")
        if fact.retry_index != slot.retry_count + 1:
            raise UnreplayableEvent(
                flow_id, version, f"retry {fact.retry_index} follows retry {slot.retry_count}"
            )
        return index
    raise UnreplayableEvent(flow_id, version, f"the definition has no step {fact.step_id!r}")
