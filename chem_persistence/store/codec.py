"""The encoding of events and artifacts as the JSON bytes that a store keeps, and the decoding.

The encoding is canonical JSON (RFC 8785); the decoding accepts any rendering of the same JSON, such
as JSONB's. Every store uses this module, so that all keep and lose the same.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from msgspec.structs import replace

from chem_persistence.domain.artifacts import Artifact
from chem_persistence.domain.canonical_json.encode import (
    canonical_json,
    content_hash,
    may_hold_lost_floats,
    read_json,
    restore_floats,
    written_plainly,
)
from chem_persistence.domain.events import (
    EVENT_KINDS,
    FlowEvent,
    FlowEventKind,
    UserInteractionProvided,
    event_type,
)
from chem_persistence.errors import (
    ArtifactCorrupt,
    ArtifactTooLarge,
    InvalidPayload,
    UnreadableEvent,
)

__all__ = [
    "StoredArtifact",
    "StoredEvent",
    "check_readable_whole",
    "decode_artifact",
    "decode_description",
    "decode_event",
    "decode_kind",
    "decode_metadata",
    "decode_typed_kind",
    "encode_kind",
    "encode_metadata",
]


class StoredEvent(msgspec.Struct, frozen=True, kw_only=True):
    """An event as a store keeps it.

    `payload` and `metadata` are JSON bytes, `link` is the event's 32 bytes of the hash chain.
    """

    seq: int
    flow_id: UUID
    version: int
    event_id: UUID
    ts: datetime
    event_type: str
    payload: bytes
    metadata: bytes
    link: bytes


class StoredArtifact(msgspec.Struct, frozen=True, kw_only=True):
    """An artifact as a store keeps it.

    It has a `payload` (JSON bytes), a `content`, or the `upload_id` of its content's chunks, which
    have `content_size` bytes together.
    """

    hash: str
    kind: str
    payload: bytes | None
    content: bytes | None
    media_type: str
    metadata: bytes
    upload_id: UUID | None = None
    content_size: int | None = None


_facts: msgspec.json.Decoder[FlowEventKind] = msgspec.json.Decoder(FlowEventKind)

_json_fields = {
    fact: field.name
    for fact in EVENT_KINDS.values()
    for field in msgspec.structs.fields(fact)
    if field.type is Any
}
"""The name of the field that takes any JSON, for each fact that has one."""

_closed_facts = frozenset(EVENT_KINDS.values()) - _json_fields.keys()
"""The facts whose fields are all strings, counts and UUIDs."""


def encode_kind(fact: FlowEventKind) -> tuple[bytes, FlowEventKind]:
    """Encode a fact; return the bytes, and the fact as it will be decoded from them.

    Structs in `data` become objects there, and a decision hash that was left out is computed.

    Raises:
        InvalidPayload: the fact is not one of the eleven, a field has the wrong type, a value is
            not I-JSON, or a decision hash is not the hash of the decision.
    """
    if (
        type(fact) in _closed_facts
        and (written := written_plainly(fact, _facts.decode)) is not None
    ):
        return written
    encoded = canonical_json(fact)
    try:
        read = _decode(encoded)
    except msgspec.DecodeError as error:
        raise InvalidPayload("$", f"{type(fact).__qualname__}: {error}") from error
    if type(read) is UserInteractionProvided:
        return _encode_decision(encoded, read)
    if type(fact) in _json_fields:  # their other fields have only one form
        return encoded, read
    # store the decoded form: a UUID given as text, for example, would not be recognised otherwise
    return canonical_json(read), read


def _encode_decision(
    encoded: bytes, provided: UserInteractionProvided
) -> tuple[bytes, FlowEventKind]:
    """Check the decision's hash, or compute the one that was left out."""
    actual = content_hash(provided.provided)
    if provided.decision_hash == actual:
        return encoded, provided
    if provided.decision_hash:
        raise InvalidPayload(
            "$.decision_hash",
            f"is {provided.decision_hash!r}, but the content hash of `provided` is {actual!r}: "
            "leave it out, and it is computed",
        )
    complete = replace(provided, decision_hash=actual)
    return canonical_json(complete), complete


def decode_kind(data: bytes, flow_id: UUID, version: int) -> FlowEventKind:
    """Return the fact that is encoded; `flow_id` and `version` name it in the error.

    Raises:
        UnreadableEvent: the fact is unknown, a field is bad, or the bytes are not JSON.
    """
    try:
        fact = _decode(data)
    except (ValueError, OverflowError, RecursionError) as error:
        raise UnreadableEvent(flow_id, version, str(error)) from error
    if (
        type(fact) is UserInteractionProvided
        and not fact.decision_hash
        and "decision_hash" not in read_json(data)  # a caller may leave it out, a row may not
    ):
        raise UnreadableEvent(flow_id, version, "has no `decision_hash`")
    return fact


def _decode(data: bytes) -> FlowEventKind:
    fact = _facts.decode(data)
    if type(fact) in _json_fields and may_hold_lost_floats(data):
        field = _json_fields[type(fact)]
        return replace(fact, **{field: restore_floats(getattr(fact, field))})
    return fact


def encode_metadata(metadata: Mapping[str, Any] | None) -> bytes:
    """Encode an event's or an artifact's metadata; None is the empty object.

    Raises:
        InvalidPayload: it is not an object of I-JSON values.
    """
    if metadata is None:
        return b"{}"
    encoded = canonical_json(metadata)
    if not encoded.startswith(b"{"):
        raise InvalidPayload("$", "metadata must be an object")
    return encoded


def decode_event(stored: StoredEvent) -> FlowEvent:
    """Return the event that is stored.

    Raises:
        UnreadableEvent: its fact is unknown or not the one of `event_type`, or a field or its
            metadata is bad.
    """
    return FlowEvent(
        seq=stored.seq,
        flow_id=stored.flow_id,
        version=stored.version,
        event_id=stored.event_id,
        ts=stored.ts,
        kind=decode_typed_kind(stored.event_type, stored.payload, stored.flow_id, stored.version),
        metadata=decode_metadata(stored.metadata, stored.flow_id, stored.version),
    )


def decode_typed_kind(
    stored_type: str, payload: bytes, flow_id: UUID, version: int
) -> FlowEventKind:
    """Return the fact that is encoded, whose event type is stored beside it.

    Raises:
        UnreadableEvent: the fact is unknown or not the one of `stored_type`, or a field is bad.
    """
    fact = decode_kind(payload, flow_id, version)
    if EVENT_KINDS.get(stored_type) is not type(fact):
        reason = f"is stored as {stored_type!r} but its payload is {event_type(fact)!r}"
        raise UnreadableEvent(flow_id, version, reason)
    return fact


def decode_metadata(data: bytes, flow_id: UUID, version: int) -> Mapping[str, Any]:
    """Return an event's metadata.

    Raises:
        UnreadableEvent: it is not an object.
    """
    try:
        return _decode_object(data)
    except (ValueError, OverflowError, RecursionError) as error:
        raise UnreadableEvent(flow_id, version, f"metadata: {error}") from error


def decode_artifact(stored: StoredArtifact) -> Artifact:
    """Return the artifact that is stored, after comparing its content with its hash.

    Raises:
        ArtifactCorrupt: they differ, or a part of it is not JSON.
    """
    try:
        artifact = Artifact(
            hash=stored.hash,
            kind=stored.kind,
            payload=None if stored.payload is None else read_json(stored.payload),
            content=stored.content,
            media_type=stored.media_type,
            metadata=_decode_object(stored.metadata),
        )
        artifact.verified()
    except (ValueError, OverflowError, RecursionError) as error:
        raise ArtifactCorrupt(stored.hash, str(error)) from error
    return artifact


def decode_description(artifact_hash: str, metadata: bytes) -> Mapping[str, Any]:
    """Return the metadata of a stored artifact, without its body.

    Raises:
        ArtifactCorrupt: they are not a JSON object.
    """
    try:
        return _decode_object(metadata)
    except (ValueError, OverflowError, RecursionError) as error:
        raise ArtifactCorrupt(artifact_hash, f"metadata: {error}") from error


def check_readable_whole(stored: StoredArtifact, limit: int) -> None:
    """Check that a streamed artifact is small enough to be read into memory as a whole.

    Raises:
        ArtifactTooLarge: its chunks have more than `limit` bytes together.
    """
    if stored.content_size is not None and stored.content_size > limit:
        raise ArtifactTooLarge(
            stored.hash, stored.content_size, limit, "; read_artifact yields it in chunks"
        )


def _decode_object(data: bytes) -> Mapping[str, Any]:
    if data == b"{}":
        return {}
    value = read_json(data)
    if not isinstance(value, dict):
        raise msgspec.DecodeError("is not an object")
    return value
