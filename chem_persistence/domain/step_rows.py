"""The rows that readers see of steps, and what a run of events changes in them."""

from collections.abc import Iterable
from datetime import datetime
from typing import assert_never
from uuid import UUID

import msgspec
from msgspec.structs import replace

from chem_persistence.domain.events import (
    BranchCreated,
    FlowCancelled,
    FlowCompleted,
    FlowEventKind,
    FlowInitialized,
    PropertyPreferenceAssigned,
    RetryScheduled,
    StepError,
    StepFailed,
    StepFinished,
    StepSignal,
    StepStarted,
    StepWaits,
    UserInteractionProvided,
    UserInteractionRequested,
)
from chem_persistence.domain.instance import StepStatus

__all__ = [
    "WITHOUT_ROW",
    "RetryChange",
    "StepChange",
    "StepExecution",
    "StepExecutionError",
    "execution_changes",
    "merged_change",
]


WITHOUT_ROW: frozenset[type] = frozenset(
    {
        BranchCreated,
        FlowCancelled,
        FlowCompleted,
        FlowInitialized,
        PropertyPreferenceAssigned,
        StepSignal,
    }
)
"""The facts that change no row of a step."""


class StepExecution(msgspec.Struct, frozen=True, kw_only=True):
    """One step of one flow; fields that `StepSlot` has too mean the same here."""

    flow_id: UUID
    step_index: int
    step_id: str
    status: StepStatus
    attempts: int
    retry_count: int
    fingerprint: str | None
    started_at: datetime | None
    finished_at: datetime | None
    error: StepError | None


class StepExecutionError(msgspec.Struct, frozen=True, kw_only=True):
    """One failure of one step: the event `version` of the flow, `seq` in the store.

    `attempt` is the number of the step's starts before it; it is 0 if the log has a failure without
    a start.
    """

    flow_id: UUID
    version: int
    seq: int
    step_index: int
    step_id: str
    attempt: int
    failed_at: datetime
    fingerprint: str
    error: StepError


class StepChange(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a run of events changes in one step's row.

    `attempts` is added to the column; a field that is None leaves its column as it is.
    """

    step_index: int
    step_id: str
    status: StepStatus = StepStatus.PENDING
    attempts: int = 0
    retry_count: int | None = None
    fingerprint: str | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    error: StepError | None = None


class RetryChange(msgspec.Struct, frozen=True):
    """A retry of a step that no earlier event of the run names: its row becomes pending."""

    step_id: str
    retry_count: int


def execution_changes(
    facts: Iterable[tuple[FlowEventKind, datetime]],
) -> tuple[list[RetryChange], list[StepChange]]:
    """Fold a run of one flow's facts, each with its time, into changes of rows.

    The retries have to be applied before the other changes.
    """
    retries: dict[str, RetryChange] = {}
    steps: dict[int, StepChange] = {}
    for fact, ts in facts:
        if isinstance(fact, RetryScheduled):
            earlier = next((step for step in steps.values() if step.step_id == fact.step_id), None)
            if earlier is None:
                retries[fact.step_id] = RetryChange(fact.step_id, fact.retry_index)
            else:
                steps[earlier.step_index] = replace(
                    earlier, status=StepStatus.PENDING, retry_count=fact.retry_index
                )
        elif (change := _change(fact, ts)) is not None:
            steps[change.step_index] = merged_change(steps.get(change.step_index), change)
    return list(retries.values()), list(steps.values())


def _change(fact: FlowEventKind, ts: datetime) -> StepChange | None:
    match fact:
        case StepStarted(step_index=index, step_id=step_id):
            running = StepStatus.RUNNING
            return StepChange(
                step_index=index, step_id=step_id, status=running, attempts=1, started_at=ts
            )
        case StepFinished(step_index=index, step_id=step_id, fingerprint=fingerprint):
            return StepChange(
                step_index=index,
                step_id=step_id,
                status=StepStatus.FINISHED,
                fingerprint=fingerprint,
                finished_at=ts,
            )
        case StepFailed(step_index=index, step_id=step_id, error=error):
            return StepChange(
                step_index=index, step_id=step_id, status=StepStatus.FAILED, error=error
            )
        case StepWaits(step_index=index, step_id=step_id):
            return StepChange(step_index=index, step_id=step_id, status=StepStatus.WAITING)
        case UserInteractionRequested(step_index=index, step_id=step_id):
            return StepChange(
                step_index=index, step_id=step_id, status=StepStatus.AWAITING_USER_INPUT
            )
        case UserInteractionProvided(step_index=index, step_id=step_id):
            return StepChange(step_index=index, step_id=step_id, status=StepStatus.PENDING)
        case (
            FlowInitialized()
            | StepSignal()
            | PropertyPreferenceAssigned()
            | BranchCreated()
            | FlowCompleted()
            | FlowCancelled()
            | RetryScheduled()
        ):
            return None
        case _ as never:
            assert_never(never)


def merged_change(earlier: StepChange | None, later: StepChange) -> StepChange:
    """Return what two changes of one step's row make together, the later one after the earlier."""
    if earlier is None:
        return later
    return replace(
        earlier,
        status=later.status,
        attempts=earlier.attempts + later.attempts,
        fingerprint=earlier.fingerprint if later.fingerprint is None else later.fingerprint,
        started_at=later.started_at or earlier.started_at,
        finished_at=later.finished_at or earlier.finished_at,
        error=later.error or earlier.error,
    )
