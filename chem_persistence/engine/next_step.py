"""Decide what an engine does next with a flow, from the flow's state alone.

The decision is a value without effects; `FlowRun` carries it out. A state that flows come to have
is one more branch here, and the type checker then finds every match that has to handle it.
"""

from collections.abc import Sequence
from typing import TypeAlias, assert_never

import msgspec
from msgspec.structs import replace

from chem_persistence.domain.definition import FlowDefinition
from chem_persistence.domain.events import StepFinished
from chem_persistence.domain.fingerprints import flow_fingerprint
from chem_persistence.domain.instance import FlowInstance, StepSlot, StepStatus
from chem_persistence.errors import (
    ChemPersistenceError,
    FlowAlreadyCompleted,
    FlowHasFailed,
    FlowWasCancelled,
    InvalidArgument,
)

__all__ = [
    "Await",
    "Complete",
    "Decision",
    "Refuse",
    "Run",
    "after_steps",
    "after_success",
    "failed_step",
    "input_of",
    "next_step",
]


class Run(msgspec.Struct, frozen=True):
    """Run the step at `step_index`; `input` is the hash of the artifact that it works on, or None.

    `attempts` counts the starts of the step that are in the log. `waits` is whether the step has
    waited since the last of them; whether its time has come is not decided here.
    """

    step_index: int
    step_id: str
    input: str | None
    attempts: int
    waits: bool = False


class Await(msgspec.Struct, frozen=True):
    """Do nothing before a person answers the step at `step_index`, or the time for that is over.

    `input` is the hash of the artifact that the step works on, or None.
    """

    step_index: int
    step_id: str
    input: str | None


class Refuse(msgspec.Struct, frozen=True):
    """Do nothing: the flow does not go on by itself; `error` says why."""

    error: ChemPersistenceError


class Complete(msgspec.Struct, frozen=True):
    """Append `FlowCompleted` with this fingerprint: every step is finished."""

    flow_fingerprint: str


Decision: TypeAlias = Run | Await | Refuse | Complete


def next_step(instance: FlowInstance, definition: FlowDefinition) -> Decision:
    """Return what comes next for a flow in this state.

    A step that was started and has no outcome is run again: whether the process that ran it has
    died is not known.
    """
    if instance.completed:
        return Refuse(FlowAlreadyCompleted(instance.id))
    if instance.cancelled is not None:
        return Refuse(FlowWasCancelled(instance.id, instance.cancelled))
    index = instance.cursor
    if index == len(instance.steps):
        return Complete(flow_fingerprint(definition.definition_hash, instance))
    return _at_step(instance, index, input_of(instance, index))


def after_steps(
    instance: FlowInstance, done: Sequence[StepFinished], definition: FlowDefinition
) -> Decision:
    """Return what comes next once these steps have finished, from the flow's next step on."""
    last = done[-1]
    index = last.step_index + 1
    if index < len(instance.steps) and instance.steps[index].status is not StepStatus.FINISHED:
        return _at_step(instance, index, _first(last.outputs))
    for finished in done:
        instance = after_success(instance, finished)
    return next_step(instance, definition)


def after_success(instance: FlowInstance, finished: StepFinished) -> FlowInstance:
    """Return the state after a step's success, with all that `next_step` looks at."""
    slots = list(instance.steps)
    slots[finished.step_index] = replace(
        slots[finished.step_index],
        status=StepStatus.FINISHED,
        fingerprint=finished.fingerprint,
        outputs=finished.outputs,
    )
    return replace(instance, steps=tuple(slots))


def failed_step(instance: FlowInstance) -> StepSlot:
    """Return the step of a flow that has failed, to be tried again.

    Raises:
        FlowWasCancelled: the flow was cancelled.
        InvalidArgument: no step has failed, or its retry is scheduled already.
    """
    if instance.cancelled is not None:
        raise FlowWasCancelled(instance.id, instance.cancelled)
    for slot in instance.steps:
        if slot.status is StepStatus.FAILED:
            return slot
    raise InvalidArgument("flow_id", f"no step of flow {instance.id} has failed")


def _at_step(instance: FlowInstance, index: int, given: str | None) -> Decision:
    """Return what comes next at a step that is not finished, and works on `given`."""
    slot = instance.steps[index]
    match slot.status:
        case StepStatus.PENDING | StepStatus.RUNNING:
            return Run(index, slot.step_id, given, slot.attempts)
        case StepStatus.AWAITING_USER_INPUT:
            return Await(index, slot.step_id, given)
        case StepStatus.WAITING:
            return Run(index, slot.step_id, given, slot.attempts, waits=True)
        case StepStatus.FAILED:
            return Refuse(FlowHasFailed(instance.id, slot.step_id))
        case StepStatus.FINISHED:
            raise AssertionError("the cursor is at a step that is not finished")
        case _ as never:
            assert_never(never)


def input_of(instance: FlowInstance, index: int) -> str | None:
    """Return the hash of a step's input: the flow's, or the first output of the step before it."""
    if index == 0:
        return instance.input
    return _first(instance.steps[index - 1].outputs)


def _first(outputs: tuple[str, ...]) -> str | None:
    return outputs[0] if outputs else None
