"""The state of a flow, as replay computes it."""

from collections.abc import Iterable
from datetime import datetime
from enum import StrEnum
from itertools import compress, count, repeat
from operator import attrgetter, is_not
from typing import Any
from uuid import UUID

import msgspec

from chem_persistence.domain.definition import FlowDefinition
from chem_persistence.domain.events import StepError
from chem_persistence.errors import InvalidArgument

__all__ = [
    "FlowInstance",
    "StepAnswer",
    "StepSlot",
    "StepStatus",
    "check_steps",
    "empty_instance",
    "has_steps_of",
    "initial_instance",
]


_status = attrgetter("status")


class StepStatus(StrEnum):
    """The state of a step."""

    PENDING = "pending"
    RUNNING = "running"
    WAITING = "waiting"
    FINISHED = "finished"
    FAILED = "failed"
    AWAITING_USER_INPUT = "awaiting_user_input"


class StepAnswer(msgspec.Struct, frozen=True):
    """A person's answer to a step's question; `decision_hash` is its content hash."""

    provided: Any
    decision_hash: str


class StepSlot(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One step's state.

    `attempts` counts starts, `retry_count` scheduled retries; `started_at` is the last start,
    `finished_at` the success; `error` is the last failure and stays after a later success;
    `outputs` are artifact hashes.

    `until` is the time at which a waiting step, or one that awaits an answer, goes on by itself, or
    before which a retry may not begin; None if there is no such time. `data` is the memory that the
    step wrote when it last waited: it stays when the step goes on, fails and is retried. `answer`
    is the answer to its last question, until the next retry. `starts` counts the starts since the
    last outcome (success, failure, wait or question), without those that were released by a worker
    that stopped: more than one means that a process died.
    """

    step_id: str
    status: StepStatus = StepStatus.PENDING
    fingerprint: str | None = None
    outputs: tuple[str, ...] = ()
    started_at: datetime | None = None
    finished_at: datetime | None = None
    attempts: int = 0
    retry_count: int = 0
    error: StepError | None = None
    until: datetime | None = None
    data: Any = None
    answer: StepAnswer | None = None
    starts: int = 0

    @property
    def has_begun(self) -> bool:
        """Whether an event started the step, ended it, let it wait, or asked or answered for it."""
        return (
            self.status is not StepStatus.PENDING
            or self.attempts > 0
            or self.retry_count > 0
            or self.answer is not None
        )


class FlowInstance(msgspec.Struct, frozen=True, kw_only=True):
    """A flow's state after `version` events; `version` is what the next append expects.

    `input` is the hash of the flow's input artifact, or None. `cancelled` is the reason for which
    the flow was cancelled; None if it was not.
    """

    id: UUID
    version: int
    steps: tuple[StepSlot, ...]
    completed: bool = False
    input: str | None = None
    cancelled: str | None = None

    @property
    def cursor(self) -> int:
        """The index of the first step that is not finished; the number of steps when all are."""
        # in C: flows have thousands of steps
        unfinished = map(is_not, map(_status, self.steps), repeat(StepStatus.FINISHED))
        return next(compress(count(), unfinished), len(self.steps))


def initial_instance(flow_id: UUID, definition: FlowDefinition) -> FlowInstance:
    """Return the state before the first event: every step pending."""
    return empty_instance(flow_id, (step.id for step in definition.steps))


def empty_instance(flow_id: UUID, step_ids: Iterable[str]) -> FlowInstance:
    """Return the state before the first event of a flow that has steps with these ids."""
    slots = [StepSlot(step_id=step_id) for step_id in step_ids]  # faster than a generator
    return FlowInstance(id=flow_id, version=0, steps=tuple(slots))


def has_steps_of(instance: FlowInstance, definition: FlowDefinition) -> bool:
    """Return whether the instance has a slot for each step of the definition, in order."""
    return [slot.step_id for slot in instance.steps] == [step.id for step in definition.steps]


def check_steps(instance: FlowInstance, definition: FlowDefinition) -> None:
    """Check that an instance has the steps of the definition.

    Raises:
        InvalidArgument: it has other steps.
    """
    if not has_steps_of(instance, definition):
        raise InvalidArgument("instance", "has other steps than the definition")
