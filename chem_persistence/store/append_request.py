"""One append, checked and encoded before any store is touched.

Every check that needs no store is made here, once for all stores.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from operator import attrgetter
from typing import Any, TypeAlias
from uuid import UUID

import msgspec
from msgspec import convert
from uuid_utils import uuid7

from chem_persistence.domain.artifacts import KEPT, Artifact
from chem_persistence.domain.canonical_json.encode import outweighs, read_json
from chem_persistence.domain.definition import DEFINITION_KINDS
from chem_persistence.domain.events import (
    FlowEvent,
    FlowEventKind,
    FlowInitialized,
    StepFinished,
    event_type,
    is_seal,
)
from chem_persistence.domain.hash_chain import GENESIS, ChainLink, chain_links
from chem_persistence.domain.streams import StreamedArtifact
from chem_persistence.errors import ArtifactTooLarge, InvalidArgument, InvalidPayload
from chem_persistence.store.attribution import PROGRAM, RUN_BY
from chem_persistence.store.checks import (
    LARGE_BYTES,
    MAX_APPEND_BYTES,
    MAX_EVENT_BYTES,
    MAX_JSON_MEMBERS,
    MAX_VERSION,
    MOST_JSONB_GROWTH,
    check_containers,
    check_flow_id,
    check_json_size,
    in_utc,
    jsonb_size,
)
from chem_persistence.store.codec import (
    JSON_KINDS,
    StoredArtifact,
    StoredEvent,
    encode_description,
    encode_kind,
    encode_metadata,
)
from chem_persistence.store.leasing.hold import Hold, only_pauses

__all__ = [
    "EMPTY_FLOW",
    "AppendCall",
    "AppendRequest",
    "Head",
    "append_request",
    "artifacts_size",
    "check_event_sizes",
    "check_no_streams",
    "encode_append",
    "encoded_artifacts",
    "is_large_append",
    "is_own_event_id",
    "largest_append",
    "streamed_artifacts",
]

EventPlace: TypeAlias = int
"""The index of an event in its append."""


class Head(msgspec.Struct, frozen=True, gc=False):
    """The end of a flow: its number of events, and the hash-chain link of the last one."""

    version: int
    link: bytes


EMPTY_FLOW = Head(0, GENESIS)

_FREE_BITS = 10
"""The bits at the end of the event ids made here that are zero; 64 random ones are left."""

_LAST_BYTES = [
    (before_last << 8 >> _FREE_BITS << _FREE_BITS).to_bytes(2, "big") for before_last in range(256)
]
"""The last two bytes of an event id, by the random byte before the last."""

FEW_EVENTS = MAX_APPEND_BYTES // (2 * MAX_EVENT_BYTES)
"""This many events of the largest size fit into one append, so that fewer need no check."""


class AppendCall(msgspec.Struct, frozen=True, gc=False):
    """The arguments of one `append_kinds`, as the caller gave them, and its lease, if any.

    With `hold` a program appends to a flow that it runs by itself, and holds by that lease.
    """

    flow_id: UUID
    kinds: Sequence[FlowEventKind]
    artifacts: Sequence[Artifact | StreamedArtifact] = ()
    expected_version: int | None = None
    event_ids: Sequence[UUID] | None = None
    metadata: Mapping[str, Any] | None = None
    lease: UUID | None = None
    hold: Hold | None = None


class AppendRequest(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Encoded events for the end of one flow, with their artifacts.

    `event_ids`, `kinds` and `payloads` have one entry an event, in order. `kinds` are the facts as
    they will be read back. `size` is the number of bytes of JSON and content that the append
    stores. `ids_given` is true if the caller chose the event ids, and so may be repeating an
    append. `first_metadata` are those of the first event, which say more if a program begins the
    flow. `artifacts` and `streamed` pair each artifact with the index of the event that produced
    it, in hash order, so that appends which share artifacts lock them in one order and cannot
    deadlock; the content of `streamed` ones is in the store already. With a `lease` the
    events are stored only if the flow is held by it. With `hold` as well, the first append takes
    that lease, and a later one keeps it although a step waits or is to be tried again.
    """

    flow_id: UUID
    expected_version: int | None
    ts: datetime
    event_ids: tuple[UUID, ...]
    ids_given: bool
    kinds: tuple[FlowEventKind, ...]
    payloads: tuple[bytes, ...]
    metadata: bytes
    first_metadata: bytes
    size: int
    artifacts: tuple[tuple[EventPlace, StoredArtifact], ...] = ()
    streamed: tuple[tuple[EventPlace, StreamedArtifact], ...] = ()
    lease: UUID | None = None
    hold: Hold | None = None

    @property
    def begins(self) -> bool:
        """Whether the append takes the lease under which it is made."""
        return self.hold is not None and self.expected_version == 0

    @property
    def keeps(self) -> bool:
        """Whether the lease stays although the events would release it."""
        return self.hold is not None and only_pauses(self.kinds)

    def links(self, head: Head) -> list[ChainLink]:
        """Return the events' hash-chain links if they follow the flow's `head`."""
        return chain_links(
            head.link,
            flow_id=self.flow_id,
            version=head.version,
            event_ids=self.event_ids,
            ts=self.ts,
            payloads=self.payloads,
            first_metadata=self.first_metadata,
            metadata=self.metadata,
        )

    def stored_events(self, head: Head, seqs: Sequence[int]) -> list[StoredEvent]:
        """Return the events as stored after the flow's `head`, under the seqs given."""
        return [
            StoredEvent(
                seq=seqs[index],
                flow_id=self.flow_id,
                version=head.version + index,
                event_id=self.event_ids[index],
                ts=self.ts,
                event_type=event_type(self.kinds[index]),
                payload=self.payloads[index],
                metadata=self.metadata if index else self.first_metadata,
                link=own.hash,
            )
            for index, own in enumerate(self.links(head))
        ]

    def events(self, version: int, seqs: Sequence[int]) -> list[FlowEvent]:
        """Return the events as a reader will read them, without decoding them again."""
        metadata = first = {} if self.metadata == b"{}" else read_json(self.metadata)
        if self.first_metadata is not self.metadata:
            first = read_json(self.first_metadata)
        events: list[FlowEvent] = []
        for seq, event_id, kind in zip(seqs, self.event_ids, self.kinds, strict=True):
            events.append(
                FlowEvent(
                    seq=seq,
                    flow_id=self.flow_id,
                    version=version,
                    event_id=event_id,
                    ts=self.ts,
                    kind=kind,
                    metadata=first,
                )
            )
            version += 1
            first = metadata
        return events


async def encode_append(
    call: AppendCall, *, ts: datetime, max_artifact_bytes: int
) -> AppendRequest:
    """Check and encode an append as `append_request` does, a large one in a worker thread."""
    encode = partial(append_request, call, ts=ts, max_artifact_bytes=max_artifact_bytes)
    return await asyncio.to_thread(encode) if is_large_append(call) else encode()


def is_large_append(call: AppendCall) -> bool:
    """Return whether to encode an append in a worker thread, as it would hold up the event loop."""
    if call.metadata and outweighs(call.metadata, LARGE_BYTES):
        return True
    if not JSON_KINDS.isdisjoint(map(type, call.kinds)) and outweighs(call.kinds, LARGE_BYTES):
        return True
    for given in call.artifacts:
        if isinstance(given, Artifact):
            kept = given.__dict__.get(KEPT)
            if (kept is None or len(kept) > LARGE_BYTES) and given.is_large():
                return True
    return False


def append_request(call: AppendCall, *, ts: datetime, max_artifact_bytes: int) -> AppendRequest:
    """Check and encode an append; event ids are made here (UUIDv7) unless the caller gives them.

    Raises:
        InvalidArgument: if the flow id is nil or not a UUID, there are no events, one follows a
            seal, the event ids do not match them, the expected version is impossible, or the
            clock's time is none with a zone.
        InvalidPayload: if a fact or the metadata is not I-JSON or too large, or the whole is.
        ArtifactCorrupt: if an artifact does not have the hash that names it.
        ArtifactTooLarge: if an artifact has more than `max_artifact_bytes` bytes.
    """
    kinds, expected_version, artifacts = call.kinds, call.expected_version, call.artifacts
    if type(call.flow_id) is not UUID or call.flow_id.int == 0:
        check_flow_id(call.flow_id)
    if not kinds:
        raise InvalidArgument("kinds", "an append needs at least one event")
    if expected_version is not None and not 0 <= expected_version <= MAX_VERSION:
        raise InvalidArgument("expected_version", f"must be 0 to {MAX_VERSION}")
    payloads, facts = zip(*map(encode_kind, kinds), strict=True)
    if len(facts) > 1 and any(map(is_seal, facts[:-1])):
        raise InvalidArgument("kinds", "no event may follow the seal of a flow")
    metadata = first_metadata = encode_metadata(call.metadata)
    if call.hold is not None and expected_version == 0:
        first_metadata = encode_metadata({**(call.metadata or {}), RUN_BY: PROGRAM})
    size = len(payloads) * len(metadata) + sum(map(len, payloads))
    if (size + len(first_metadata)) * MOST_JSONB_GROWTH > MAX_EVENT_BYTES:
        check_event_sizes(payloads, first_metadata)
    event_ids = _event_ids(call.event_ids, len(kinds))
    utc = ts if type(ts) is datetime and ts.tzinfo is UTC else in_utc(ts)
    stored = encoded_artifacts(artifacts, facts, max_artifact_bytes) if artifacts else ()
    streamed = streamed_artifacts(artifacts, facts) if artifacts else ()
    if artifacts or len(kinds) > FEW_EVENTS:
        size += artifacts_size(stored)
        if size > (limit := largest_append(max_artifact_bytes)):
            raise InvalidPayload("$", f"the append has {size} bytes, the limit is {limit}")
    return AppendRequest(
        flow_id=call.flow_id,
        expected_version=expected_version,
        ts=utc,
        event_ids=event_ids,
        ids_given=call.event_ids is not None,
        kinds=facts,
        payloads=payloads,
        metadata=metadata,
        first_metadata=first_metadata,
        size=size,
        artifacts=stored,
        streamed=streamed,
        lease=call.lease,
        hold=call.hold,
    )


def largest_append(max_artifact_bytes: int) -> int:
    """Return the limit of an append in bytes: the largest artifact and its event always fit."""
    return max(MAX_APPEND_BYTES, max_artifact_bytes + 2 * MAX_EVENT_BYTES)


def check_no_streams(request: AppendRequest) -> None:
    """Check that an append outside a transaction has no streamed artifacts.

    Raises:
        InvalidArgument: if it has one; it belongs into the transaction of its upload.
    """
    if request.streamed:
        raise InvalidArgument(
            "artifacts", "a streamed artifact is appended in the transaction of its upload"
        )


def check_event_sizes(payloads: Sequence[bytes], metadata: bytes) -> None:
    """Raise InvalidPayload if a payload or the metadata is too large for an event."""
    for encoded in (metadata, *payloads):
        if len(encoded) * MOST_JSONB_GROWTH > MAX_EVENT_BYTES:
            check_json_size("the event", encoded)


def artifacts_size(artifacts: Iterable[tuple[EventPlace, StoredArtifact]]) -> int:
    """Return the number of bytes of JSON and content that artifacts are stored with."""
    size = 0
    for _, stored in artifacts:
        size += len(stored.payload or stored.content or b"") + len(stored.metadata)
    return size


def is_own_event_id(event_id: UUID) -> bool:
    """Return whether an event id looks like those made here: UUIDv7 with zeros at the end.

    Such ids need no entry in an index, which others need, so that repeated appends are recognised.
    One of 1,024 ids of version 7 that others make looks like it as well.
    """
    return event_id.version == 7 and event_id.int & (2**_FREE_BITS - 1) == 0


def _new_event_id() -> UUID:
    random = uuid7().bytes
    return convert(random[:-2] + _LAST_BYTES[random[-2]], UUID)  # in a third of UUID()'s time


def _event_ids(given: Sequence[UUID] | None, count: int) -> tuple[UUID, ...]:
    if given is None:
        return (_new_event_id(),) if count == 1 else tuple([_new_event_id() for _ in range(count)])
    if len(given) != count:
        raise InvalidArgument("event_ids", f"has {len(given)} ids for {count} events")
    if len(set(given)) != count or not all(isinstance(event_id, UUID) for event_id in given):
        raise InvalidArgument("event_ids", "must be distinct UUIDs")
    return tuple(given)


def encoded_artifacts(
    artifacts: Sequence[Artifact | StreamedArtifact], kinds: Sequence[FlowEventKind], limit: int
) -> tuple[tuple[EventPlace, StoredArtifact], ...]:
    """Check and encode the artifacts that carry their content, in hash order."""
    given = [artifact for artifact in artifacts if not isinstance(artifact, StreamedArtifact)]
    encoded: dict[str, tuple[int, StoredArtifact]] = {}
    for artifact in sorted(given, key=attrgetter("hash")):
        body, is_json = artifact.verified(), artifact.content is None
        if len(body) > limit:
            raise ArtifactTooLarge(artifact.hash, len(body), limit)
        if is_json and body.count(b",") >= MAX_JSON_MEMBERS:
            check_containers(artifact.payload)
        metadata = encode_metadata(artifact.metadata)
        if len(metadata) * MOST_JSONB_GROWTH > MAX_EVENT_BYTES:
            encode_description(artifact.metadata)
        stored = StoredArtifact(
            hash=artifact.hash,
            kind=artifact.kind,
            payload=body if is_json else None,
            content=artifact.content,
            media_type=artifact.media_type,
            metadata=metadata,
            is_verbatim=is_json and _is_large(body),
        )
        encoded.setdefault(artifact.hash, (_producer(artifact, kinds), stored))
    return tuple(encoded.values())


def _is_large(payload: bytes) -> bool:
    """Return whether JSONB would make many bytes of a payload, so that it is stored as it is."""
    if len(payload) * MOST_JSONB_GROWTH <= LARGE_BYTES:
        return False
    return len(payload) > LARGE_BYTES or jsonb_size(payload) > LARGE_BYTES


def streamed_artifacts(
    artifacts: Sequence[Artifact | StreamedArtifact], kinds: Sequence[FlowEventKind]
) -> tuple[tuple[EventPlace, StreamedArtifact], ...]:
    """Return the artifacts whose content is in the store already, in hash order."""
    streamed = {
        artifact.hash: artifact for artifact in artifacts if isinstance(artifact, StreamedArtifact)
    }
    if not streamed:
        return ()
    for artifact in streamed.values():
        encode_description(artifact.metadata)
    return tuple((_producer(streamed[each], kinds), streamed[each]) for each in sorted(streamed))


def _producer(artifact: Artifact | StreamedArtifact, kinds: Sequence[FlowEventKind]) -> int:
    """Return the index of the event that names the artifact, or of the last event if none does.

    A definition belongs to the `FlowInitialized`.
    """
    for index, kind in enumerate(kinds):
        if isinstance(kind, StepFinished) and artifact.hash in kind.outputs:
            return index
        if isinstance(kind, FlowInitialized) and (
            artifact.hash == kind.input or artifact.kind in DEFINITION_KINDS
        ):
            return index
    return len(kinds) - 1
