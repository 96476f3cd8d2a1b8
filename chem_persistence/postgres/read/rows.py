"""Rows of the tables and views, mapped to values; a row that is not as appended raises."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

import msgspec

from chem_persistence.domain.answers import (
    ArtifactConsumer,
    ArtifactProducer,
    FlowSummary,
)
from chem_persistence.domain.events import FlowParent, StepError
from chem_persistence.domain.flow_state import FlowState
from chem_persistence.domain.instance import StepStatus
from chem_persistence.domain.snapshot import Snapshot
from chem_persistence.domain.step_rows import StepExecution, StepExecutionError
from chem_persistence.domain.tampering import ChainedEvent
from chem_persistence.errors import UnreadableEvent
from chem_persistence.store.checks import MAX_VERSION
from chem_persistence.store.codec import StoredArtifact, StoredEvent

__all__ = [
    "NO_EVENT_ID",
    "NO_TIME",
    "Row",
    "artifact_consumer",
    "artifact_producer",
    "chained_event",
    "flow_summary",
    "step_execution",
    "step_execution_error",
    "stored_artifact",
    "stored_error",
    "stored_event",
    "stored_snapshot",
]

Row = Mapping[str, Any]

NO_EVENT_ID = "its event id is missing"
NO_TIME = "its time is missing or out of range"


def stored_event(row: Row) -> StoredEvent:
    """Map a row of `event_log`; a payload or metadata that is NULL becomes invalid JSON.

    Raises:
        UnreadableEvent: the row has no event id, or no time that a datetime can hold.
    """
    if row["ts"] is None or row["event_id"] is None:
        reason = NO_TIME if row["event_id"] else NO_EVENT_ID
        raise UnreadableEvent(row["flow_id"], row["version"], reason)
    return StoredEvent(
        seq=row["seq"],
        flow_id=row["flow_id"],
        version=row["version"],
        event_id=row["event_id"],
        ts=row["ts"],
        event_type=row["event_type"],
        payload=row["payload"] or b"",
        metadata=row["metadata"] or b"",
        link=row["chain_hash"],
    )


def chained_event(row: Row) -> ChainedEvent:
    """Map a row of `event_log` to the values that the chain hashes, undecoded.

    A value that is NULL becomes one that no event has.
    """
    return ChainedEvent(
        flow_id=row["flow_id"],
        version=MAX_VERSION if row["version"] is None else row["version"],  # NULL sorts last
        seq=row["seq"],
        event_id=row["event_id"],
        ts=row["ts"],
        event_type=row["event_type"],
        payload=row["payload"] or b"",
        metadata=row["metadata"] or b"",
        link=row["chain_hash"] or b"",
    )


def stored_artifact(row: Row) -> StoredArtifact:
    """Map a row of `workflow_step_artifacts`; metadata that is NULL becomes invalid JSON."""
    payload, content, is_verbatim = row["payload"], row["content"], row["content_is_payload"]
    if is_verbatim and payload is None:
        payload, content = content, None
    return StoredArtifact(
        hash=row["artifact_hash"],
        kind=row["kind"],
        payload=payload,
        content=content,
        media_type=row["media_type"],
        metadata=row["metadata"] or b"",
        upload_id=row["upload_id"],
        content_size=row["content_size"],
        is_verbatim=is_verbatim,
    )


def stored_snapshot(row: Row) -> Snapshot:
    """Map a row of `flow_snapshots`; a state or hash that is NULL becomes one that is invalid."""
    return Snapshot(
        flow_id=row["flow_id"],
        version=row["version"],
        definition_hash=row["definition_hash"],
        format=row["format"],
        state=row["state"] or b"",
        state_hash=row["state_hash"] or b"",
    )


def flow_summary(row: Row) -> FlowSummary:
    """Map a row of the view `flows`.

    Raises:
        UnreadableEvent: the first or the last event has no time that a datetime can hold, or the
            failure or the parent does not decode.
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
        failure=stored_error(row["failure"], flow_id, version - 1),
        name=row["name"],
        label=row["label"],
        parent=_parent(row["parent"], flow_id),
    )


def step_execution(row: Row, flow_id: UUID) -> StepExecution:
    """Map a row of `workflow_step_executions`.

    Raises:
        UnreadableEvent: its error does not decode.
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
        error=stored_error(row["error"], flow_id, -1),
    )


def step_execution_error(row: Row) -> StepExecutionError:
    """Map a row of the view `step_execution_errors`.

    Raises:
        UnreadableEvent: the failure lacks a column, or its error does not decode.
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
        error=_present(
            {"error": stored_error(row["error"], flow_id, version)}, "error", flow_id, version
        ),
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
        raise UnreadableEvent(flow_id, version, f"{column} is missing or out of range")
    return row[column]


def _parent(data: bytes | None, flow_id: UUID) -> FlowParent | None:
    if data is None:
        return None
    try:
        return msgspec.json.decode(data, type=FlowParent)
    except (ValueError, RecursionError) as error:
        raise UnreadableEvent(flow_id, 0, f"parent: {error}") from error


def stored_error(data: bytes | None, flow_id: UUID, version: int) -> StepError | None:
    """Decode the error of a failed step; None stays None.

    Raises:
        UnreadableEvent: it does not decode.
    """
    if data is None:
        return None
    try:
        return msgspec.json.decode(data, type=StepError)
    except (ValueError, RecursionError) as error:
        raise UnreadableEvent(flow_id, version, f"error: {error}") from error
