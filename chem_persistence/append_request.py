"""What one append asks for, checked and encoded before any store is touched.

Every check that needs no store is made here, once, for all stores.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec
from uuid_utils.compat import uuid7

from chem_persistence.argument_checks import check_flow_id
from chem_persistence.codec import (
    StoredArtifact,
    StoredEvent,
    encode_kind,
    encode_metadata,
)
from chem_persistence.domain.artifacts import Artifact
from chem_persistence.domain.canonical import read_json
from chem_persistence.domain.chain import GENESIS, ChainLink, chain_link
from chem_persistence.domain.events import FlowEvent, FlowEventKind, event_type
from chem_persistence.domain.streams import StreamedArtifact
from chem_persistence.errors import InvalidArgument, InvalidPayload
from chem_persistence.limits import MAX_APPEND_BYTES, MAX_EVENT_BYTES, MAX_VERSION
from chem_persistence.produced_artifacts import encoded_artifacts, streamed_artifacts

__all__ = [
    "EMPTY_FLOW",
    "AppendRequest",
    "Head",
    "append_request",
]


class Head(msgspec.Struct, frozen=True, gc=False):
    """Where a flow ends: how many events it has, and the last one's link of the hash chain."""

    version: int
    link: bytes


FEW_EVENTS = MAX_APPEND_BYTES // (2 * MAX_EVENT_BYTES)
"""So many events are never too large together."""

EMPTY_FLOW = Head(0, GENESIS)


class AppendRequest(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Events for the end of one flow, with artifacts; the lists run in step.

    `kinds` are the facts as they will be read back; `ids_given` says that the caller chose the event ids and may
    be repeating an append; `artifacts` pairs each artifact with the index of the event that produced it, in hash order,
    so that two appends which share artifacts lock them in the same order; `streamed` does so for artifacts whose content
    is in the store already.
    """

    flow_id: UUID
    ts: datetime
    event_ids: tuple[UUID, ...]
    ids_given: bool
    kinds: tuple[FlowEventKind, ...]
    payloads: tuple[bytes, ...]
    metadata: bytes
    artifacts: tuple[tuple[int, StoredArtifact], ...]
    streamed: tuple[tuple[int, StreamedArtifact], ...] = ()

    def size(self) -> int:
        """Give the bytes of JSON and content that the append stores."""
        size = len(self.payloads) * len(self.metadata)
        for payload in self.payloads:
            size += len(payload)
        for _, stored in self.artifacts:
            size += len(stored.payload or stored.content or b"") + len(stored.metadata)
        return size

    def links(self, head: Head) -> list[ChainLink]:
        """Chain the events, when they are appended to the flow's `head`."""
        links = []
        previous = head.link
        for index, payload in enumerate(self.payloads):
            own = chain_link(
                previous,
                flow_id=self.flow_id,
                version=head.version + index,
                event_id=self.event_ids[index],
                ts=self.ts,
                payload=payload,
                metadata=self.metadata,
            )
            links.append(own)
            previous = own.hash
        return links

    def stored_events(self, head: Head, seqs: Sequence[int]) -> list[StoredEvent]:
        """Give the events as they are stored after the flow's `head`, under the store-wide numbers `seqs`."""
        return [
            StoredEvent(
                seq=seqs[index],
                flow_id=self.flow_id,
                version=head.version + index,
                event_id=self.event_ids[index],
                ts=self.ts,
                event_type=event_type(self.kinds[index]),
                payload=self.payloads[index],
                metadata=self.metadata,
                link=own.hash,
            )
            for index, own in enumerate(self.links(head))
        ]

    def events(self, version: int, seqs: Sequence[int]) -> list[FlowEvent]:
        """Give the events as a reader will read them, without decoding them again."""
        metadata = {} if self.metadata == b"{}" else read_json(self.metadata)
        return [
            FlowEvent(
                seq=seqs[index],
                flow_id=self.flow_id,
                version=version + index,
                event_id=self.event_ids[index],
                ts=self.ts,
                kind=kind,
                metadata=metadata,
            )
            for index, kind in enumerate(self.kinds)
        ]


def append_request(
    flow_id: UUID,
    kinds: Sequence[FlowEventKind],
    *,
    artifacts: Sequence[Artifact | StreamedArtifact],
    expected_version: int | None,
    event_ids: Sequence[UUID] | None,
    metadata: Mapping[str, Any] | None,
    ts: datetime,
    max_artifact_bytes: int,
) -> AppendRequest:
    """Check and encode an append; the event ids are made here unless the caller gives them.

    Raises:
        InvalidArgument: a flow id that is nil or no UUID, no events, event ids that do not match them, an
            impossible expected version, or a clock that gives naive datetimes.
        InvalidPayload: a fact or the metadata is not I-JSON or too large, or all is too large together.
        ArtifactCorrupt: an artifact does not have the hash that names it.
        ArtifactTooLarge: an artifact has more than `max_artifact_bytes` bytes.
    """
    check_flow_id(flow_id)
    if not kinds:
        raise InvalidArgument("kinds", "an append needs at least one event")
    if expected_version is not None and not 0 <= expected_version <= MAX_VERSION:
        raise InvalidArgument("expected_version", f"must be 0 to {MAX_VERSION}")
    encoded = [encode_kind(kind) for kind in kinds]
    encoded_metadata = encode_metadata(metadata)
    payloads = [payload for payload, _ in encoded]
    for size in map(len, [encoded_metadata, *payloads]):
        if size > MAX_EVENT_BYTES:
            raise InvalidPayload("$", f"the event has {size} bytes, the limit is {MAX_EVENT_BYTES}")
    read_back = tuple([kind for _, kind in encoded])
    request = AppendRequest(
        flow_id=flow_id,
        ts=ts if ts.tzinfo is UTC else _in_utc(ts),
        event_ids=_new_ids(len(kinds)) if event_ids is None else _checked_ids(event_ids, len(kinds)),
        ids_given=event_ids is not None,
        kinds=read_back,
        payloads=tuple(payloads),
        metadata=encoded_metadata,
        artifacts=encoded_artifacts(artifacts, read_back, max_artifact_bytes) if artifacts else (),
        streamed=streamed_artifacts(artifacts, read_back) if artifacts else (),
    )
    if artifacts or len(kinds) > FEW_EVENTS:
        _check_size(request, max(MAX_APPEND_BYTES, max_artifact_bytes + 2 * MAX_EVENT_BYTES))
    return request


def _check_size(request: AppendRequest, limit: int) -> None:
    size = request.size()
    if size > limit:
        raise InvalidPayload("$", f"the append has {size} bytes, the limit is {limit}")


def _in_utc(ts: datetime) -> datetime:
    if ts.utcoffset() is None:
        raise InvalidArgument("clock", "gives datetimes without a time zone")
    return ts.astimezone(UTC)


def _new_ids(count: int) -> tuple[UUID, ...]:
    return (uuid7(),) if count == 1 else tuple([uuid7() for _ in range(count)])


def _checked_ids(event_ids: Sequence[UUID], count: int) -> tuple[UUID, ...]:
    if len(event_ids) != count:
        raise InvalidArgument("event_ids", f"has {len(event_ids)} ids for {count} events")
    if len(set(event_ids)) != count or not all(isinstance(event_id, UUID) for event_id in event_ids):
        raise InvalidArgument("event_ids", "must be distinct UUIDs")
    return tuple(event_ids)
