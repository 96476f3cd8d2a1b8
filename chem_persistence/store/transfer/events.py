"""Stored events as they travel: in canonical JSON, chained, and as requests to store them again."""

from collections.abc import Sequence

import msgspec
from msgspec.structs import replace

from chem_persistence.domain.artifacts import Artifact
from chem_persistence.domain.canonical_json.encode import canonical_json, read_json
from chem_persistence.domain.hash_chain import chain_link
from chem_persistence.domain.streams import StreamedArtifact
from chem_persistence.errors import InvalidPayload, UnreadableEvent
from chem_persistence.store.append_request import (
    AppendRequest,
    artifacts_size,
    check_event_sizes,
    encoded_artifacts,
    streamed_artifacts,
)
from chem_persistence.store.checks import check_flow_id
from chem_persistence.store.codec import StoredEvent, decode_kind, decode_metadata

__all__ = ["canonical_event", "content_after", "stored_request"]


def canonical_event(stored: StoredEvent) -> StoredEvent:
    """Return a stored event with its JSON in canonical form.

    Raises:
        UnreadableEvent: a part of it is not JSON.
    """
    try:
        payload = canonical_json(read_json(stored.payload))
        metadata = canonical_json(read_json(stored.metadata))
    except (msgspec.DecodeError, InvalidPayload, OverflowError, RecursionError) as error:
        raise UnreadableEvent(stored.flow_id, stored.version, str(error)) from error
    return replace(stored, payload=payload, metadata=metadata)


def content_after(previous: bytes, event: StoredEvent) -> bytes:
    """Return what the chain hashes of a canonical event, which follows the link `previous`.

    Raises:
        UnreadableEvent: the event does not have the link that its content and `previous` make.
    """
    own = chain_link(
        previous,
        flow_id=event.flow_id,
        version=event.version,
        event_id=event.event_id,
        ts=event.ts,
        payload=event.payload,
        metadata=event.metadata,
    )
    if own.hash != event.link:
        reason = "its link does not follow from its content and the event before: it was changed"
        raise UnreadableEvent(event.flow_id, event.version, reason)
    return own.content


def stored_request(
    event: StoredEvent, artifacts: Sequence[Artifact | StreamedArtifact], max_artifact_bytes: int
) -> AppendRequest:
    """Return the request that stores an event of another store, with the artifacts given.

    Raises:
        InvalidArgument: the flow id cannot name a flow.
        InvalidPayload: the event or an artifact is not I-JSON, or is too large.
        UnreadableEvent: the event does not decode, or its JSON is not canonical.
        ArtifactCorrupt: an artifact does not have the hash that names it.
        ArtifactTooLarge: an artifact has more than `max_artifact_bytes` bytes.
    """
    check_flow_id(event.flow_id)
    kind = decode_kind(event.payload, event.flow_id, event.version, event.event_type)
    decode_metadata(event.metadata, event.flow_id, event.version)
    if canonical_event(event) != event:
        raise UnreadableEvent(event.flow_id, event.version, "its JSON is not canonical")
    check_event_sizes((event.payload,), event.metadata)
    stored = encoded_artifacts(artifacts, (kind,), max_artifact_bytes)
    return AppendRequest(
        flow_id=event.flow_id,
        expected_version=event.version,
        ts=event.ts,
        event_ids=(event.event_id,),
        ids_given=True,
        kinds=(kind,),
        payloads=(event.payload,),
        metadata=event.metadata,
        first_metadata=event.metadata,
        size=len(event.payload) + len(event.metadata) + artifacts_size(stored),
        artifacts=stored,
        streamed=streamed_artifacts(artifacts, (kind,)),
    )
