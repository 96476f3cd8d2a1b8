"""A flow as a list of flows shows it."""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

import msgspec

from chem_persistence.domain.events import StepError

__all__ = ["FlowState", "FlowSummary"]


class FlowState(StrEnum):
    """Where a flow stands; one whose process died is running, because the next process goes on with it."""

    RUNNING = "running"
    AWAITING_USER_INPUT = "awaiting_user_input"
    FAILED = "failed"
    COMPLETED = "completed"


class FlowSummary(msgspec.Struct, frozen=True, kw_only=True):
    """A flow's state after `version` events, as its log and its step rows tell it without its definition.

    `definition_hash` and `step_count` are what its first event says, None when that is no `FlowInitialized`. `cursor` is the
    index of the first step that is not finished, and `step_count` when all are. `current_step` is the id of that step, None
    while no event names it: the log holds no definition, so the name of a step that has not started is not known.
    `failure` is the error of the last step that stands failed, None once its retry is scheduled. Times are UTC.
    """

    flow_id: UUID
    state: FlowState
    definition_hash: str | None
    step_count: int | None
    finished_steps: int
    cursor: int
    current_step: str | None
    started_at: datetime
    last_event_at: datetime
    version: int
    failure: StepError | None
