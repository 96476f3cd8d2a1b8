"""What one append asks for, checked and encoded before any store is touched.

Every check that needs no store is made here, once, for all stores.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec
from uuid_utils.compat import uuid7

from chem_persistence.domain.artifacts import Artifact
from chem_persistence.domain.canonical_json.encode import read_json
from chem_persistence.domain.events import (
    FlowEvent,
    FlowEventKind,
    FlowInitialized,
    StepFinished,
    event_type,
)
from chem_persistence.domain.hash_chain import GENESIS, ChainLink, chain_link
from chem_persistence.domain.streams import StreamedArtifact
from chem_persistence.errors import ArtifactTooLarge, InvalidArgument, InvalidPayload
from chem_persistence.store.checks import (
    MAX_APPEND_BYTES,
    MAX_EVENT_BYTES,
    MAX_JSON_ITEMS,
    MAX_JSON_MEMBERS,
    MAX_VERSION,
    check_flow_id,
)
from chem_persistence.store.codec import (
    StoredArtifact,
    StoredEvent,
    encode_kind,
    encode_metadata,
)

__all__ = [
    "EMPTY_FLOW",
    "AppendRequest",
    "Head",
    "append_request",
    "encoded_artifacts",
    "streamed_artifacts",
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
        event_ids=_new_ids(len(kinds))
        if event_ids is None
        else _checked_ids(event_ids, len(kinds)),
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
    if len(set(event_ids)) != count or not all(
        isinstance(event_id, UUID) for event_id in event_ids
    ):
        raise InvalidArgument("event_ids", "must be distinct UUIDs")
    return tuple(event_ids)


def encoded_artifacts(
    artifacts: Sequence[Artifact | StreamedArtifact], kinds: Sequence[FlowEventKind], limit: int
) -> tuple[tuple[int, StoredArtifact], ...]:
    """Check and encode the artifacts that bring their content, in hash order, each with its event's index.

    Raises:
        ArtifactCorrupt: one does not have the hash that names it.
        ArtifactTooLarge: one has more than `limit` bytes.
        InvalidPayload: one is not I-JSON, or its description is not; or an array or object is larger than JSONB's can be.
    """
    given = [artifact for artifact in artifacts if not isinstance(artifact, StreamedArtifact)]
    encoded: dict[str, tuple[int, StoredArtifact]] = {}
    for artifact in sorted(given, key=lambda artifact: artifact.hash):
        body = artifact.verified()
        if len(body) > limit:
            raise ArtifactTooLarge(artifact.hash, len(body), limit)
        if artifact.content is None and body.count(b",") >= MAX_JSON_MEMBERS:
            _check_containers(artifact.payload)
        stored = StoredArtifact(
            hash=artifact.hash,
            kind=artifact.kind,
            payload=body if artifact.content is None else None,
            content=artifact.content,
            media_type=artifact.media_type,
            metadata=encode_metadata(artifact.metadata),
        )
        encoded.setdefault(artifact.hash, (_producer(artifact.hash, kinds), stored))
    return tuple(encoded.values())


def _check_containers(payload: Any) -> None:
    waiting = [payload]
    while waiting:
        value = waiting.pop()
        if len(value) > (MAX_JSON_MEMBERS if isinstance(value, dict) else MAX_JSON_ITEMS):
            raise InvalidPayload(
                "$", f"has {len(value)} values in one {type(value).__name__}, more than JSONB holds"
            )
        items = value.values() if isinstance(value, dict) else value
        waiting += [item for item in items if isinstance(item, dict | list)]


def streamed_artifacts(
    artifacts: Sequence[Artifact | StreamedArtifact], kinds: Sequence[FlowEventKind]
) -> tuple[tuple[int, StreamedArtifact], ...]:
    """Give the artifacts whose content is in the store already, in hash order, each with its event's index."""
    streamed = {
        artifact.hash: artifact for artifact in artifacts if isinstance(artifact, StreamedArtifact)
    }
    return tuple(
        (_producer(artifact_hash, kinds), streamed[artifact_hash])
        for artifact_hash in sorted(streamed)
    )


def _producer(artifact_hash: str, kinds: Sequence[FlowEventKind]) -> int:
    """Find the event that names the artifact; one that no event names belongs to the last."""
    for index, kind in enumerate(kinds):
        match kind:
            case StepFinished(outputs=outputs) if artifact_hash in outputs:
                return index
            case FlowInitialized(input=flow_input) if flow_input == artifact_hash:
                return index
            case _:
                pass
    return len(kinds) - 1
