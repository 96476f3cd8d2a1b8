"""Convert step rows to slots, to compare them with those of a replay."""

from collections.abc import Iterable
from typing import Any
from uuid import UUID

from msgspec.structs import replace

from chem_persistence import StepSlot
from chem_persistence.postgres.read.rows import step_execution

__all__ = ["as_row", "projected_slots"]


def as_row(slot: StepSlot) -> StepSlot:
    """Return a slot with what the row of the step has."""
    return replace(slot, outputs=(), until=None, data=None, answer=None, starts=0)


def projected_slots(rows: Iterable[Any], flow_id: UUID) -> dict[int, StepSlot]:
    """Return a flow's rows of `workflow_step_executions` as slots by index; see `as_row`."""
    executions = [step_execution(row, flow_id) for row in rows]
    return {
        execution.step_index: StepSlot(
            step_id=execution.step_id,
            status=execution.status,
            fingerprint=execution.fingerprint,
            started_at=execution.started_at,
            finished_at=execution.finished_at,
            attempts=execution.attempts,
            retry_count=execution.retry_count,
            error=execution.error,
        )
        for execution in executions
    }
