"""A step of a flow as its log left it, and each of its failures."""

from datetime import datetime
from uuid import UUID

import msgspec

from chem_persistence.domain.events import StepError
from chem_persistence.domain.instance import StepStatus

__all__ = ["StepExecution", "StepExecutionError"]


class StepExecution(msgspec.Struct, frozen=True, kw_only=True):
    """One step of one flow; what it has in common with `StepSlot` means the same there."""

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

    `attempt` counts the step's starts before it, from 1; it is 0 where the log has a failure without a start.
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
