"""The encoding of events and artifacts as the JSON bytes that a store keeps, and the decoding.

The encoding is canonical JSON (RFC 8785); the decoding accepts any rendering of the same JSON, such
as JSONB's. Every store uses this module, so that all keep and lose the same.
"""

import asyncio
import hashlib
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from msgspec import UNSET
from msgspec.structs import replace

from chem_persistence.domain.artifacts import SMALL, Artifact, check_text, read_payload
from chem_persistence.domain.canonical_json.encode import (
    canonical_json,
    in_canonical_order,
    may_hold_lost_floats,
    read_json,
    restore_floats,
    written_plainly,
)
from chem_persistence.domain.events import (
    EVENT_KINDS,
    FlowEvent,
    FlowEventKind,
    LibrarySignal,
    StepSignal,
    UserInteractionProvided,
    event_type,
)
from chem_persistence.errors import (
    ArtifactCorrupt,
    ArtifactTooLarge,
    InvalidPayload,
    UnreadableEvent,
)
from chem_persistence.store.checks import (
    LARGE_BYTES,
    MAX_EVENT_BYTES,
    MOST_JSONB_GROWTH,
    check_json_size,
)
from chem_persistence.store.fact_checks import (
    TIME_FIELDS,
    check_signal_name,
    with_decision_hash,
    with_time_in_utc,
)

__all__ = [
    "JSON_KINDS",
    "StoredArtifact",
    "StoredEvent",
    "check_readable_whole",
    "decode_artifact",
    "decode_aside",
    "decode_description",
    "decode_event",
    "decode_kind",
    "decode_metadata",
    "decode_replayed",
    "encode_description",
    "encode_kind",
    "encode_metadata",
    "verified_body",
    "verify_aside",
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
    have `content_size` bytes together. With `is_verbatim` the payload is stored as its canonical
    bytes, as large ones are, and not as JSONB.
    """

    hash: str
    kind: str
    payload: bytes | None
    content: bytes | None
    media_type: str
    metadata: bytes
    upload_id: UUID | None = None
    content_size: int | None = None
    is_verbatim: bool = False


_facts: msgspec.json.Decoder[FlowEventKind] = msgspec.json.Decoder(FlowEventKind)

_json_fields = {
    fact: field.name
    for fact in EVENT_KINDS.values()
    for field in msgspec.structs.fields(fact)
    if field.type is Any
}
"""The name of the field that takes any JSON, for each fact that has one."""

JSON_KINDS = frozenset({*_json_fields, LibrarySignal})
"""The facts that have a field which takes any JSON, and so may be large."""

_closed_facts = frozenset(EVENT_KINDS.values()) - _json_fields.keys()
"""The facts whose fields are all strings, counts, UUIDs and times in UTC, or structs of these."""


def encode_kind(fact: FlowEventKind) -> tuple[bytes, FlowEventKind]:
    """Encode a fact; return the bytes, and the fact as it will be decoded from them.

    Structs in `data` become objects there, times are in UTC, and a decision hash that was left out
    is computed.

    Raises:
        InvalidPayload: the fact is not one of the thirteen, a field has the wrong type, a value is
            not I-JSON, a time has no time zone, the name of a signal is reserved, or a decision
            hash is not the hash of the decision.
    """
    if (time_field := TIME_FIELDS.get(type(fact))) is not None:
        fact = with_time_in_utc(fact, time_field)
    if (
        type(fact) in _closed_facts
        and (written := written_plainly(fact, _facts.decode)) is not None
    ):
        return written
    encoded = canonical_json(fact)
    try:
        read = _decode(encoded, in_order=True)
    except msgspec.DecodeError as error:
        raise InvalidPayload("$", f"{type(fact).__qualname__}: {error}") from error
    if type(read) is UserInteractionProvided:
        complete = with_decision_hash(read)
        return (encoded, read) if complete is read else (canonical_json(complete), complete)
    if type(read) is StepSignal and type(fact) is not LibrarySignal:
        check_signal_name(read.signal)
    if type(fact) in JSON_KINDS:  # their other fields have only one form
        return encoded, read
    # store the decoded form: a UUID given as text, for example, would not be recognised otherwise
    return canonical_json(read), read


def decode_kind(
    data: bytes, flow_id: UUID, version: int, stored_type: str | None = None
) -> FlowEventKind:
    """Return the fact that is encoded; `flow_id` and `version` name it in the error.

    Raises:
        UnreadableEvent: the fact is unknown or not the one of `stored_type`, a field is bad, or the
            bytes are not JSON.
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
    if stored_type is not None and EVENT_KINDS.get(stored_type) is not type(fact):
        reason = f"is stored as {stored_type!r} but its payload is {event_type(fact)!r}"
        raise UnreadableEvent(flow_id, version, reason)
    return fact


def _decode(data: bytes, *, in_order: bool = False) -> FlowEventKind:
    """Decode a fact; `in_order` if the keys of its JSON are known to be in canonical order."""
    fact = _facts.decode(data)
    if (time_field := TIME_FIELDS.get(type(fact))) and getattr(fact, time_field) is not UNSET:
        fact = with_time_in_utc(fact, time_field)  # written by hand, it may have another zone
    if type(fact) in _json_fields:
        field = _json_fields[type(fact)]
        value = found = getattr(fact, field)
        if may_hold_lost_floats(data):
            value = restore_floats(value)
        if not in_order:
            value = in_canonical_order(value)
        if value is not found:
            return replace(fact, **{field: value})
    return fact


class _SignalUnread(StepSignal, frozen=True, tag="stepsignal"):
    """A signal whose data is left as it is stored."""

    data: msgspec.Raw = msgspec.Raw(b"null")


_SIGNAL = event_type(StepSignal)
_signals = msgspec.json.Decoder(_SignalUnread)


def decode_replayed(data: bytes, flow_id: UUID, version: int, stored_type: str) -> FlowEventKind:
    """Return the fact for a replay: as `decode_kind` does, but the data of a signal is not decoded.

    No state depends on it, and most events of a long flow are signals.

    Raises:
        UnreadableEvent: as `decode_kind`, except for a number in a signal's data that is beyond
            every float.
    """
    if stored_type == _SIGNAL:
        try:
            return _signals.decode(data)
        except (ValueError, RecursionError):
            pass  # decode_kind says what is wrong
    return decode_kind(data, flow_id, version, stored_type)


def encode_metadata(metadata: Mapping[str, Any] | None) -> bytes:
    """Encode an event's or an artifact's metadata; None is the empty object.

    Raises:
        InvalidPayload: it is not an object of I-JSON values.
    """
    if metadata is None or (type(metadata) is dict and not metadata):
        return b"{}"
    encoded = canonical_json(metadata)
    if not encoded.startswith(b"{"):
        raise InvalidPayload("$", "metadata must be an object")
    return encoded


def encode_description(metadata: Mapping[str, Any]) -> bytes:
    """Encode an artifact's metadata.

    Raises:
        InvalidPayload: it is not an object of I-JSON values, or it is too large.
    """
    encoded = encode_metadata(metadata)
    if len(encoded) * MOST_JSONB_GROWTH > MAX_EVENT_BYTES:
        check_json_size("the artifact's metadata", encoded)
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
        kind=decode_kind(stored.payload, stored.flow_id, stored.version, stored.event_type),
        metadata=decode_metadata(stored.metadata, stored.flow_id, stored.version),
    )


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

    A payload's keys are in canonical order, whatever the order in which they are stored.

    Raises:
        ArtifactCorrupt: they differ, or a part of it is not JSON.
    """
    body = verified_body(stored)
    try:
        metadata = _decode_object(stored.metadata)
    except (ValueError, OverflowError, RecursionError) as error:
        raise ArtifactCorrupt(stored.hash, f"metadata: {error}") from error
    artifact = Artifact(
        hash=stored.hash,
        kind=stored.kind,
        payload=None if stored.payload is None else read_payload(body),
        content=stored.content,
        media_type=stored.media_type,
        metadata=metadata,
    )
    if len(body) <= LARGE_BYTES:
        artifact.__dict__[SMALL] = True
    return artifact


def verified_body(stored: StoredArtifact) -> bytes:
    """Return a stored content, or the canonical bytes of a payload, that has the artifact's hash.

    Raises:
        ArtifactCorrupt: it has another hash or is not JSON, or the kind or the media type is not
            text.
    """
    try:
        check_text("kind", stored.kind)
        check_text("media_type", stored.media_type)
        if stored.payload is None:
            body = canonical_json(None) if stored.content is None else stored.content
        else:
            body = stored.payload
            if not stored.is_verbatim:
                body = canonical_json(read_json(body))
    except (ValueError, OverflowError, RecursionError) as error:
        raise ArtifactCorrupt(stored.hash, str(error)) from error
    if stored.payload is not None and stored.content is not None:
        raise ArtifactCorrupt(stored.hash, "has both a payload and content")
    actual = hashlib.sha256(body).hexdigest()
    if actual != stored.hash:
        raise ArtifactCorrupt(stored.hash, f"its content has the hash {actual}")
    return body


async def decode_aside(stored: StoredArtifact) -> Artifact:
    """Decode a stored artifact as `decode_artifact` does, a large one in a worker thread."""
    if len(stored.payload or stored.content or b"") > LARGE_BYTES:
        return await asyncio.to_thread(decode_artifact, stored)
    return decode_artifact(stored)


async def verify_aside(stored: StoredArtifact) -> bytes:
    """Return what `verified_body` returns; a large body is hashed in a worker thread."""
    if len(stored.payload or stored.content or b"") > LARGE_BYTES:
        return await asyncio.to_thread(verified_body, stored)
    return verified_body(stored)


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
    ordered: Mapping[str, Any] = in_canonical_order(value)
    return ordered
