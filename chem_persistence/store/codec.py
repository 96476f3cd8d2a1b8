"""The one way from an event to the JSON bytes that a store keeps, and back.

What is written is canonical JSON (RFC 8785); what is read may be any rendering of the same JSON, such as
JSONB's. Both stores use this module, so what one loses the other loses too.
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
    """An event as a store keeps it: `payload` and `metadata` are JSON bytes, `link` is its 32 bytes of the chain."""

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
    """An artifact as a store keeps it: `payload` (JSON bytes), `content`, or the `upload_id` of its content's chunks.

    `content_size` is what the chunks have together.
    """

    hash: str
    kind: str
    payload: bytes | None
    content: bytes | None
    media_type: str
    metadata: bytes
    upload_id: UUID | None = None
    content_size: int | None = None


_kinds: msgspec.json.Decoder[FlowEventKind] = msgspec.json.Decoder(FlowEventKind)

_json_fields = {
    kind: field.name
    for kind in EVENT_KINDS.values()
    for field in msgspec.structs.fields(kind)
    if field.type is Any
}
"""The field that takes any JSON, of the kinds that have one."""

_closed_kinds = frozenset(EVENT_KINDS.values()) - _json_fields.keys()
"""The kinds all of whose fields are texts, counts and UUIDs."""


def encode_kind(kind: FlowEventKind) -> tuple[bytes, FlowEventKind]:
    """Encode a fact, and give it as it will be read back (structs in `data` become objects).

    Raises:
        InvalidPayload: the fact is not one of the eleven, a field has the wrong type, or a value is not I-JSON.
    """
    if (
        type(kind) in _closed_kinds
        and (written := written_plainly(kind, _kinds.decode)) is not None
    ):
        return written
    encoded = canonical_json(kind)
    try:
        read = _decode(encoded)
    except msgspec.DecodeError as error:
        raise InvalidPayload("$", f"{type(kind).__qualname__}: {error}") from error
    if type(read) is UserInteractionProvided:
        return _encode_decision(encoded, read)
    if type(kind) in _json_fields:  # their other fields have one form only
        return encoded, read
    # a UUID given as text, say, is stored as it is read, or it would not be recognised
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
    """Decode a stored fact; `flow_id` and `version` name it in the error.

    Raises:
        UnreadableEvent: the kind is unknown, a field is bad, or the bytes are not JSON.
    """
    try:
        kind = _decode(data)
    except (ValueError, OverflowError, RecursionError) as error:
        raise UnreadableEvent(flow_id, version, str(error)) from error
    if (
        type(kind) is UserInteractionProvided
        and not kind.decision_hash
        and "decision_hash" not in read_json(data)  # a caller may leave it out, a row may not
    ):
        raise UnreadableEvent(flow_id, version, "has no `decision_hash`")
    return kind


def _decode(data: bytes) -> FlowEventKind:
    kind = _kinds.decode(data)
    if type(kind) in _json_fields and may_hold_lost_floats(data):
        field = _json_fields[type(kind)]
        return replace(kind, **{field: restore_floats(getattr(kind, field))})
    return kind


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
    """Decode a stored event.

    Raises:
        UnreadableEvent: its kind is unknown or not what `event_type` says, or a field or its metadata is bad.
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
    """Decode a stored fact whose event type is stored beside it.

    Raises:
        UnreadableEvent: the kind is unknown or not what `stored_type` says, or a field is bad.
    """
    kind = decode_kind(payload, flow_id, version)
    if EVENT_KINDS.get(stored_type) is not type(kind):
        reason = f"is stored as {stored_type!r} but its payload is {event_type(kind)!r}"
        raise UnreadableEvent(flow_id, version, reason)
    return kind


def decode_metadata(data: bytes, flow_id: UUID, version: int) -> Mapping[str, Any]:
    """Decode an event's metadata.

    Raises:
        UnreadableEvent: it is not an object.
    """
    try:
        return _decode_object(data)
    except (ValueError, OverflowError, RecursionError) as error:
        raise UnreadableEvent(flow_id, version, f"metadata: {error}") from error


def decode_artifact(stored: StoredArtifact) -> Artifact:
    """Decode a stored artifact and compare its content with its hash.

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
    """Decode the metadata of a stored artifact, without its body.

    Raises:
        ArtifactCorrupt: they are no JSON object.
    """
    try:
        return _decode_object(metadata)
    except (ValueError, OverflowError, RecursionError) as error:
        raise ArtifactCorrupt(artifact_hash, f"metadata: {error}") from error


def check_readable_whole(stored: StoredArtifact, limit: int) -> None:
    """Refuse to put together what was streamed because it is large.

    Raises:
        ArtifactTooLarge: its chunks have more than `limit` bytes together.
    """
    if stored.content_size is not None and stored.content_size > limit:
        raise ArtifactTooLarge(
            stored.hash, stored.content_size, limit, "; read_artifact gives it chunk by chunk"
        )


def _decode_object(data: bytes) -> Mapping[str, Any]:
    if data == b"{}":
        return {}
    value = read_json(data)
    if not isinstance(value, dict):
        raise msgspec.DecodeError("is not an object")
    return value
