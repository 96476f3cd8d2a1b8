"""Rows to values: the one place that knows the shapes of what is read."""

from collections.abc import Mapping
from typing import Any

import msgspec

from chem_persistence.codec import StoredArtifact, StoredEvent
from chem_persistence.domain.events import StepError
from chem_persistence.domain.instance import StepSlot, StepStatus
from chem_persistence.domain.tampering import ChainedEvent
from chem_persistence.errors import UnreadableEvent
from chem_persistence.limits import MAX_VERSION

__all__ = [
    "chained_event",
    "stored_artifact",
    "stored_event",
    "stored_execution",
]

Row = Mapping[str, Any]


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
