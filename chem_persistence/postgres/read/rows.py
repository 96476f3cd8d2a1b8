"""Rows to values: the one place that knows the shapes of what is read."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from chem_persistence.domain.answers import (
    ArtifactConsumer,
    ArtifactProducer,
    FlowSummary,
)
from chem_persistence.domain.events import FlowEvent, FlowEventKind, StepError
from chem_persistence.domain.flow_state import FlowState
from chem_persistence.domain.instance import StepStatus
from chem_persistence.domain.snapshot import Snapshot
from chem_persistence.domain.step_rows import StepExecution, StepExecutionError
from chem_persistence.domain.tampering import ChainedEvent
from chem_persistence.errors import UnreadableEvent
from chem_persistence.store.checks import MAX_VERSION
from chem_persistence.store.codec import (
    StoredArtifact,
    StoredEvent,
    decode_metadata,
    decode_typed_kind,
)

__all__ = [
    "Row",
    "artifact_consumer",
    "artifact_producer",
    "chained_event",
    "flow_events",
    "flow_facts",
    "flow_summary",
    "step_execution",
    "step_execution_error",
    "stored_artifact",
    "stored_event",
    "stored_snapshot",
]

Row = Mapping[str, Any]

_MISSING = "is missing from the log"
_NO_EVENT_ID = "has no event id"
_NO_TIME = "has no time, or one that is out of range"


def stored_event(row: Row) -> StoredEvent:
    """Map a row of `event_log`; what must be JSON and is NULL becomes what is no JSON either.

    Raises:
        UnreadableEvent: the row has no event id, or no time that a datetime can hold.
    """
    if row["ts"] is None or row["event_id"] is None:
        reason = _NO_TIME if row["event_id"] else _NO_EVENT_ID
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


def flow_events(rows: Iterable[Row], flow_id: UUID, first: int) -> Iterator[FlowEvent]:
    """Map rows to the events of a flow, from version `first` on, each when it is asked for.

    Raises:
        UnreadableEvent: an event does not decode, or is missing.
    """
    for version, row in enumerate(rows, start=first):
        if row["version"] != version:
            raise UnreadableEvent(flow_id, version, _MISSING)
        if row["ts"] is None or row["event_id"] is None:
            raise UnreadableEvent(flow_id, version, _NO_TIME if row["event_id"] else _NO_EVENT_ID)
        yield FlowEvent(
            seq=row["seq"],
            flow_id=flow_id,
            version=version,
            event_id=row["event_id"],
            ts=row["ts"],
            kind=decode_typed_kind(row["event_type"], row["payload"] or b"", flow_id, version),
            metadata=decode_metadata(row["metadata"] or b"", flow_id, version),
        )


def flow_facts(
    rows: Iterable[Sequence[Any]], flow_id: UUID, first: int
) -> Iterator[tuple[FlowEventKind, datetime | None]]:
    """Map rows of (version, has_time, ts, event_type, payload) to what a replay needs of the events.

    That is each fact, with its time if a state shows it; see `replay_facts`.

    Raises:
        UnreadableEvent: a fact does not decode, or an event is missing, or has no time.
    """
    for version, (stored_version, has_time, ts, event_type, payload) in enumerate(
        rows, start=first
    ):
        if stored_version != version:
            raise UnreadableEvent(flow_id, version, _MISSING)
        if not has_time:
            raise UnreadableEvent(flow_id, version, _NO_TIME)
        yield decode_typed_kind(event_type, payload or b"", flow_id, version), ts


def chained_event(row: Row) -> ChainedEvent:
    """Map a row of `event_log` to what the chain is made of, undecoded; what is NULL is what no event has."""
    return ChainedEvent(
        flow_id=row["flow_id"],
        version=MAX_VERSION
        if row["version"] is None
        else row["version"],  # where NULL is in the order
        seq=row["seq"],
        event_id=row["event_id"],
        ts=row["ts"],
        event_type=row["event_type"],
        payload=row["payload"] or b"",
        metadata=row["metadata"] or b"",
        link=row["chain_hash"] or b"",
    )


def stored_artifact(row: Row) -> StoredArtifact:
    """Map a row of `workflow_step_artifacts`; metadata that is NULL becomes what is no JSON either."""
    return StoredArtifact(
        hash=row["artifact_hash"],
        kind=row["kind"],
        payload=row["payload"],
        content=row["content"],
        media_type=row["media_type"],
        metadata=row["metadata"] or b"",
        upload_id=row["upload_id"],
        content_size=row["content_size"],
    )


def stored_snapshot(row: Row) -> Snapshot:
    """Map a row of `flow_snapshots`; what is NULL becomes what does not verify."""
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
        error=_present(
            {"error": _error(row["error"], flow_id, version)}, "error", flow_id, version
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
        raise UnreadableEvent(flow_id, version, f"has no {column}, or one that is out of range")
    return row[column]


def _error(data: bytes | None, flow_id: UUID, version: int) -> StepError | None:
    if data is None:
        return None
    try:
        return msgspec.json.decode(data, type=StepError)
    except (ValueError, RecursionError) as error:
        raise UnreadableEvent(flow_id, version, f"error: {error}") from error
