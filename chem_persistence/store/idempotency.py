"""Recognising an append that is already stored, which makes a repeated append harmless."""

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
    """Say whether the flow already holds this append, given its events that have one of the request's ids.

    Gives the original events, or None when the flow has none of them.

    Raises:
        EventIdReused: an id names an event with another fact, other metadata (but for the trace), or in another place.
        UnreadableEvent: a stored event does not decode.
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
            or canonical_json(original.kind)
            != request.payloads[index]  # in Python 1 == True, in JSON not
            or not _says_the_same(original.metadata, request.metadata)
        ):
            raise EventIdReused(
                request.flow_id, originals[0].event_id if original is None else event_id
            )
    return originals


def _says_the_same(stored: Mapping[str, Any], given: bytes) -> bool:
    """Compare metadata but for the trace, for a repeated append may come from another one."""
    if encode_metadata(stored) == given:
        return True
    return encode_metadata(untraced(stored)) == encode_metadata(untraced(read_json(given)))
