"""Rows to values: the one place that knows the shapes of what is read."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from chem_persistence.codec import StoredArtifact, StoredEvent, decode_metadata, decode_typed_kind
from chem_persistence.domain.events import FlowEvent, FlowEventKind
from chem_persistence.domain.snapshot import Snapshot
from chem_persistence.domain.tampering import ChainedEvent
from chem_persistence.errors import UnreadableEvent
from chem_persistence.limits import MAX_VERSION

__all__ = [
    "Row",
    "chained_event",
    "flow_events",
    "flow_facts",
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
    for version, (stored_version, has_time, ts, event_type, payload) in enumerate(rows, start=first):
        if stored_version != version:
            raise UnreadableEvent(flow_id, version, _MISSING)
        if not has_time:
            raise UnreadableEvent(flow_id, version, _NO_TIME)
        yield decode_typed_kind(event_type, payload or b"", flow_id, version), ts


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
