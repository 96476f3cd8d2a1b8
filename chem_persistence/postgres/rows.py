"""Rows to values and values to columns: the one place that knows the tables' shapes."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from chem_persistence.append_request import AppendRequest, Head
from chem_persistence.codec import StoredArtifact, StoredEvent
from chem_persistence.domain.canonical import canonical_json
from chem_persistence.domain.events import StepError
from chem_persistence.domain.executions import RetryChange, StepChange
from chem_persistence.domain.instance import StepSlot, StepStatus
from chem_persistence.domain.tampering import ChainedEvent
from chem_persistence.errors import UnreadableEvent
from chem_persistence.limits import MAX_VERSION

__all__ = [
    "artifact_columns",
    "chained_event",
    "event_columns",
    "retry_columns",
    "step_columns",
    "stored_artifact",
    "stored_event",
    "stored_execution",
]

Row = Mapping[str, Any]
Columns = Sequence[Sequence[Any]]


def stored_event(row: Row) -> StoredEvent:
    """Map a row of `event_log`; what must be JSON and is NULL becomes what is no JSON either.

    Raises:
        UnreadableEvent: the row has no event id, or no time that a datetime can hold.
    """
    if row["ts"] is None or row["event_id"] is None:
        reason = "has no event id" if row["event_id"] is None else "has no time, or one that is out of range"
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
    """Map a row of `event_log` to what the chain is made of, undecoded; what is NULL is what no event has."""
    return ChainedEvent(
        flow_id=row["flow_id"],
        version=MAX_VERSION if row["version"] is None else row["version"],  # where NULL is in the order
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
    )


def stored_execution(row: Row) -> StepSlot:
    """Map a row of `workflow_step_executions`, which holds all of a slot but its outputs."""
    return StepSlot(
        step_id=row["step_id"],
        status=StepStatus(row["status"]),
        fingerprint=row["fingerprint"],
        started_at=row["started_at"],
        finished_at=row["finished_at"],
        attempts=row["attempts"],
        retry_count=row["retry_count"],
        error=None if row["error"] is None else msgspec.json.decode(row["error"], type=StepError),
    )


def event_columns(request: AppendRequest, head: Head, links: Sequence[bytes]) -> Columns:
    """Give the parameters of `append_events` for a request that follows `head`."""
    count, version = len(request.kinds), head.version
    return (
        [request.flow_id] * count,
        list(range(version, version + count)),
        request.event_ids,
        [request.ts] * count,
        request.event_types,
        request.payloads,
        [request.metadata] * count,
        links,
        [version] * count,
        [head.link] * count,
    )


def artifact_columns(request: AppendRequest, seqs: Sequence[int]) -> Columns:
    """Give the parameters of `store_artifacts`; `seqs` are the numbers that the request's events got."""
    artifacts = [artifact for _, artifact in request.artifacts]
    return (
        [artifact.hash for artifact in artifacts],
        [artifact.kind for artifact in artifacts],
        [artifact.payload for artifact in artifacts],
        [artifact.content for artifact in artifacts],
        [artifact.media_type for artifact in artifacts],
        [artifact.metadata for artifact in artifacts],
        [request.flow_id] * len(artifacts),
        [seqs[producer] for producer, _ in request.artifacts],
    )


def retry_columns(request: AppendRequest, retries: Iterable[RetryChange]) -> Columns:
    """Give the parameters of `schedule_retries`."""
    changes = list(retries)
    return (
        [request.flow_id] * len(changes),
        [change.step_id for change in changes],
        [change.retry_count for change in changes],
    )


def step_columns(request: AppendRequest, steps: Iterable[StepChange]) -> Columns:
    """Give the parameters of `project_steps`."""
    changes = list(steps)
    return (
        [request.flow_id] * len(changes),
        [change.step_index for change in changes],
        [change.step_id for change in changes],
        [change.status.value for change in changes],
        [change.attempts for change in changes],
        [change.retry_count for change in changes],
        [change.fingerprint for change in changes],
        [change.started_at for change in changes],
        [change.finished_at for change in changes],
        [None if change.error is None else canonical_json(change.error) for change in changes],
    )
