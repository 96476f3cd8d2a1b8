"""Convert step rows to slots, to compare them with those of a replay."""

from collections.abc import Iterable
from typing import Any
from uuid import UUID

from chem_persistence import StepSlot
from chem_persistence.postgres.read.rows import step_execution

__all__ = ["projected_slots"]


def projected_slots(rows: Iterable[Any], flow_id: UUID) -> dict[int, StepSlot]:
    """Return a flow's rows of `workflow_step_executions` as slots by index, without outputs."""
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
