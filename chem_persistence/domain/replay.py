"""Replay: the state of a flow is the fold of its events, and nothing else."""

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import TypeAlias, assert_never
from uuid import UUID

from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from chem_persistence.domain.definition import FlowDefinition
from chem_persistence.domain.events import (
    RELEASED,
    BranchCreated,
    FlowCancelled,
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
    StepWaits,
    UserInteractionProvided,
    UserInteractionRequested,
)
from chem_persistence.domain.instance import FlowInstance, StepAnswer, StepSlot, StepStatus
from chem_persistence.errors import DefinitionMismatch, UnreplayableEvent

__all__ = ["replay", "replay_facts"]

_STEP_FACTS = (
    StepStarted,
    StepFinished,
    StepFailed,
    StepWaits,
    StepSignal,
    UserInteractionRequested,
    UserInteractionProvided,
)
_Pause: TypeAlias = StepWaits | UserInteractionRequested | UserInteractionProvided
_StepFact: TypeAlias = StepSignal | StepStarted | StepFinished | StepFailed | _Pause


def replay(
    instance: FlowInstance, events: Iterable[FlowEvent], definition: FlowDefinition
) -> FlowInstance:
    """Return the state after `events`, which follow those that `instance` has seen already.

    The events of a flow may be replayed in any number of parts: the state is the same.

    A `StepWaits` ends an attempt. Its step then goes on with whatever fits: another `StepWaits`, a
    question, its success or its failure, without a start, when the wait alone decides it (a job or
    children that are done); or a `StepStarted`, when the step's code begins anew.

    A cancelled flow never goes on: after a `FlowCancelled` only a signal, a preference and a branch
    may follow, which change no state; and it does not follow a `FlowCompleted`.

    Raises:
        DefinitionMismatch: the flow was started with another definition.
        UnreplayableEvent: an event is of another flow or has another version than the next one; it
            names a step that the definition does not have; it is a retry of a step that has not
            failed, or not the next retry; or it follows a cancellation, or cancels a flow that has
            ended.
    """
    return replay_facts(instance, _facts_in_place(instance, events), definition.definition_hash)


def _facts_in_place(
    instance: FlowInstance, events: Iterable[FlowEvent]
) -> Iterator[tuple[FlowEventKind, datetime]]:
    flow_id = instance.id
    for version, event in enumerate(events, start=instance.version):
        # mostly it is the same object: a comparison of UUIDs is a call
        is_own = event.flow_id is flow_id or event.flow_id == flow_id
        if event.version != version or not is_own:
            raise UnreplayableEvent(
                flow_id,
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
    version, completed, cancelled = instance.version, instance.completed, instance.cancelled
    flow_input = instance.input
    for fact, ts in facts:
        if cancelled is not None:
            _check_may_follow_cancellation(fact, instance.id, version)
        if isinstance(fact, _STEP_FACTS):
            index = _index_of(fact, slots, instance.id, version)
            slots[index] = _slot_after(slots[index], fact, ts)
            version += 1
            continue
        match fact:
            case RetryScheduled():
                index = _retried_index(fact, slots, instance.id, version)
                slots[index] = _retried(slots[index], fact)
            case FlowInitialized():
                if fact.definition_hash != definition_hash:
                    raise DefinitionMismatch(instance.id, definition_hash, fact.definition_hash)
                flow_input = fact.input
            case FlowCompleted():
                completed = True
            case FlowCancelled():
                _check_not_completed(completed, instance.id, version)
                cancelled = fact.reason
            case PropertyPreferenceAssigned() | BranchCreated():
                pass
            case _ as never:
                assert_never(never)
        version += 1
    return replace(
        instance,
        version=version,
        steps=tuple(slots),
        completed=completed,
        input=flow_input,
        cancelled=cancelled,
    )


def _check_may_follow_cancellation(fact: FlowEventKind, flow_id: UUID, version: int) -> None:
    if not isinstance(fact, StepSignal | PropertyPreferenceAssigned | BranchCreated):
        name = type(fact).__name__
        raise UnreplayableEvent(flow_id, version, f"a {name} follows the flow's cancellation")


def _check_not_completed(completed: bool, flow_id: UUID, version: int) -> None:  # noqa: FBT001
    if completed:
        raise UnreplayableEvent(flow_id, version, "it cancels a flow that is completed")


def _slot_after(slot: StepSlot, fact: _StepFact, ts: datetime | None) -> StepSlot:
    match fact:
        case StepSignal():  # the most frequent first
            if fact.signal != RELEASED:
                return slot
            return replace(slot, starts=max(slot.starts - 1, 0))
        case StepStarted():
            return replace(
                slot,
                status=StepStatus.RUNNING,
                attempts=slot.attempts + 1,
                started_at=ts,
                until=None,
                starts=slot.starts + 1,
            )
        case StepFinished():
            return replace(
                slot,
                status=StepStatus.FINISHED,
                fingerprint=fact.fingerprint,
                outputs=fact.outputs,
                finished_at=ts,
                until=None,
                starts=0,
            )
        case StepFailed():
            return replace(slot, status=StepStatus.FAILED, error=fact.error, until=None, starts=0)
        case _:
            return _slot_after_pause(slot, fact)


def _slot_after_pause(slot: StepSlot, fact: _Pause) -> StepSlot:
    match fact:
        case StepWaits(until=until, data=data):
            return replace(slot, status=StepStatus.WAITING, until=until, data=data, starts=0)
        case UserInteractionRequested():
            return replace(
                slot,
                status=StepStatus.AWAITING_USER_INPUT,
                until=_time(fact.until),
                answer=None,
                starts=0,
            )
        case UserInteractionProvided():
            answer = StepAnswer(fact.provided, fact.decision_hash)
            return replace(slot, status=StepStatus.PENDING, until=None, answer=answer)
        case _ as never:
            assert_never(never)


def _retried(slot: StepSlot, fact: RetryScheduled) -> StepSlot:
    return replace(
        slot,
        status=StepStatus.PENDING,
        retry_count=fact.retry_index,
        until=_time(fact.not_before),
        answer=None,
    )


def _time(value: datetime | UnsetType) -> datetime | None:
    return None if value is UNSET else value


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
