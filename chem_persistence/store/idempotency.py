"""Idempotency: an append that is stored already is recognised, and not stored again."""

from collections.abc import Mapping, Sequence
from typing import Any

from chem_persistence.domain.canonical_json.encode import canonical_json, read_json
from chem_persistence.domain.events import FlowEvent
from chem_persistence.errors import EventIdReused
from chem_persistence.store.append_request import AppendRequest
from chem_persistence.store.attribution import untraced
from chem_persistence.store.codec import StoredEvent, decode_event, encode_metadata

__all__ = ["recognise"]


def recognise(request: AppendRequest, stored: Sequence[StoredEvent]) -> list[FlowEvent] | None:
    """Return the original events of an append, or None if the flow holds none of them.

    `stored` are the events of the flow that have one of the request's event ids.

    Raises:
        EventIdReused: if an id names an event with another fact, with other metadata (the trace is
            not compared), or at another version.
        UnreadableEvent: if a stored event does not decode.
    """
    if not stored:
        return None
    originals = [decode_event(event) for event in sorted(stored, key=lambda event: event.version)]
    for index, event_id in enumerate(request.event_ids):
        original = originals[index] if index < len(originals) else None
        if (
            original is None
            or original.event_id != event_id
            or original.version != originals[0].version + index
            # bytes are compared, since 1 == True in Python and not in JSON
            or canonical_json(original.kind) != request.payloads[index]
            or not _is_equal_but_for_trace(
                original.metadata, request.metadata if index else request.first_metadata
            )
        ):
            raise EventIdReused(
                request.flow_id, originals[0].event_id if original is None else event_id
            )
    return originals


def _is_equal_but_for_trace(stored: Mapping[str, Any], given: bytes) -> bool:
    """Compare metadata without the trace: an append may be repeated within another one."""
    if encode_metadata(stored) == given:
        return True
    return encode_metadata(untraced(stored)) == encode_metadata(untraced(read_json(given)))
