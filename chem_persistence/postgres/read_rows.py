"""Rows of the read models to values; what no value can be made of raises."""

from typing import Any
from uuid import UUID

import msgspec

from chem_persistence.domain.events import StepError
from chem_persistence.domain.flow_summary import FlowState, FlowSummary
from chem_persistence.domain.instance import StepStatus
from chem_persistence.domain.provenance import ArtifactConsumer, ArtifactProducer
from chem_persistence.domain.step_execution import StepExecution, StepExecutionError
from chem_persistence.errors import UnreadableEvent
from chem_persistence.postgres.rows import Row

__all__ = ["artifact_consumer", "artifact_producer", "flow_summary", "step_execution", "step_execution_error"]


def flow_summary(row: Row) -> FlowSummary:
    """Map a row of the view `flows`.

    Raises:
        UnreadableEvent: the first or the last event has no time that a datetime can hold, or the failure is none.
    """
    flow_id, version = row["flow_id"], row["version"]
    return FlowSummary(
        flow_id=flow_id,
        state=FlowState(row["state"]),
        definition_hash=row["definition_hash"],
        step_count=row["step_count"],
        finished_steps=row["finished_steps"],
        cursor=row["cursor"],
        current_step=row["current_step"],
        started_at=_present(row, "started_at", flow_id, 0),
        last_event_at=_present(row, "last_event_at", flow_id, version - 1),
        version=version,
        failure=_error(row["failure"], flow_id, version - 1),
    )


def step_execution(row: Row, flow_id: UUID) -> StepExecution:
    """Map a row of `workflow_step_executions`.

    Raises:
        UnreadableEvent: its error is none.
    """
    return StepExecution(
        flow_id=flow_id,
        step_index=row["step_index"],
        step_id=row["step_id"],
        status=StepStatus(row["status"]),
        attempts=row["attempts"],
        retry_count=row["retry_count"],
        fingerprint=row["fingerprint"],
        started_at=row["started_at"],
        finished_at=row["finished_at"],
        error=_error(row["error"], flow_id, -1),
    )


def step_execution_error(row: Row) -> StepExecutionError:
    """Map a row of the view `step_execution_errors`.

    Raises:
        UnreadableEvent: the failure lacks what a failure has.
    """
    flow_id, version = row["flow_id"], row["version"]
    return StepExecutionError(
        flow_id=flow_id,
        version=version,
        seq=row["seq"],
        step_index=_present(row, "step_index", flow_id, version),
        step_id=_present(row, "step_id", flow_id, version),
        attempt=row["attempt"],
        failed_at=_present(row, "failed_at", flow_id, version),
        fingerprint=_present(row, "fingerprint", flow_id, version),
        error=_present({"error": _error(row["error"], flow_id, version)}, "error", flow_id, version),
    )


def artifact_producer(row: Row, artifact_hash: str) -> ArtifactProducer:
    """Map a row of `provenance/read_producers`.

    Raises:
        UnreadableEvent: the event has no time that a datetime can hold.
    """
    return ArtifactProducer(
        artifact_hash=artifact_hash,
        flow_id=row["flow_id"],
        version=row["version"],
        seq=row["seq"],
        event_type=row["event_type"],
        step_index=row["step_index"],
        step_id=row["step_id"],
        output=row["output"],
        produced_at=_present(row, "ts", row["flow_id"], row["version"]),
    )


def artifact_consumer(row: Row, artifact_hash: str) -> ArtifactConsumer:
    """Map a row of `provenance/read_consumers`.

    Raises:
        UnreadableEvent: the event has no step id, or no time that a datetime can hold.
    """
    return ArtifactConsumer(
        artifact_hash=artifact_hash,
        flow_id=row["flow_id"],
        version=row["version"],
        seq=row["seq"],
        step_index=row["step_index"],
        step_id=_present(row, "step_id", row["flow_id"], row["version"]),
        consumed_at=_present(row, "ts", row["flow_id"], row["version"]),
    )


def _present(row: Row, column: str, flow_id: UUID, version: int) -> Any:
    if row[column] is None:
        raise UnreadableEvent(flow_id, version, f"has no {column}, or one that is out of range")
    return row[column]


def _error(data: bytes | None, flow_id: UUID, version: int) -> StepError | None:
    if data is None:
        return None
    try:
        return msgspec.json.decode(data, type=StepError)
    except (ValueError, RecursionError) as error:
        raise UnreadableEvent(flow_id, version, f"error: {error}") from error
