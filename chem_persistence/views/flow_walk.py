"""What a page keeps of a flow's events while it reads them one after another."""

from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TypeAlias

from msgspec.structs import replace

from chem_persistence.domain.canonical_json.encode import canonical_json
from chem_persistence.domain.events import FlowCompleted, FlowEvent, FlowInitialized
from chem_persistence.domain.hash_chain import GENESIS, chain_link
from chem_persistence.store.codec import encode_metadata
from chem_persistence.views.attempts import StepTracks
from chem_persistence.views.event_line import event_step, event_summary
from chem_persistence.views.flow_view import Attribution, EventView, NoPreview
from chem_persistence.views.json_text import json_text
from chem_persistence.views.named_artifacts import NamedArtifacts, named_artifacts
from chem_persistence.views.page_limits import PageLimits
from chem_persistence.views.wording import short

__all__ = ["FlowWalk"]

MOST_ATTRIBUTIONS = 50

_Kept: TypeAlias = EventView | Callable[[], EventView]
"""A view, or what makes it: of a long flow most events are never shown, and a large one is not kept to be cut later."""


class FlowWalk:
    """Takes a flow's events in order; its memory is bounded by the limits, not by the flow's length.

    Only the hashes that the events name, 64 characters each, are all kept, each with the first steps that gave it.
    """

    def __init__(self, limits: PageLimits) -> None:
        self.first: FlowEvent | None = None
        self.last: FlowEvent | None = None
        self.definition_hash: str | None = None
        self.step_count: int | None = None
        self.flow_fingerprint: str | None = None
        self.link = GENESIS
        self.tracks = StepTracks(limits)
        self.named = NamedArtifacts()
        self.attributions: list[Attribution] = []
        self.attribution_count = 0
        self._attributed: Attribution | None = None
        self._limits = limits
        self._begin: list[_Kept] = []
        self._end: deque[_Kept] = deque(maxlen=limits.events // 2)

    def take(self, event: FlowEvent) -> None:
        """Go on with the next event."""
        self.first = self.first or event
        self.last = event
        payload, metadata = canonical_json(event.kind), encode_metadata(event.metadata)
        self.link = chain_link(
            self.link,
            flow_id=event.flow_id,
            version=event.version,
            event_id=event.event_id,
            ts=event.ts,
            payload=payload,
            metadata=metadata,
        ).hash
        self.tracks.take(event)
        self._note(event)
        self._attribute(event)
        is_of_the_begin = len(self._begin) < self._limits.events - self._limits.events // 2
        view = partial(self._view, event, payload, metadata, self.link.hex())
        is_large = len(payload) + len(metadata) > self._limits.text
        (self._begin if is_of_the_begin else self._end).append(view() if is_large else view)

    def events(self) -> tuple[EventView, ...]:
        """Give the events that are listed; payloads above what all may have together are left out."""
        left = self._limits.embedded
        listed = []
        for kept in (*self._begin, *self._end):
            event = kept if isinstance(kept, EventView) else kept()
            left -= sum(len(getattr(part, "text", "")) for part in (event.payload, event.metadata))
            if left >= 0:
                listed.append(event)
                continue
            left_out = NoPreview("left out: the page's limit for all events is used up")
            listed.append(replace(event, payload=left_out, metadata=None))
        return tuple(listed)

    def _view(self, event: FlowEvent, payload: bytes, metadata: bytes, own_link: str) -> EventView:
        return EventView(
            version=event.version,
            seq=event.seq,
            event_id=event.event_id,
            ts=event.ts,
            event_type=event.event_type,
            variant=event.variant,
            step=event_step(event.kind),
            summary=event_summary(event.kind),
            who=_who(event),
            payload=json_text(payload, self._limits.text),
            metadata=json_text(metadata, self._limits.text) if event.metadata else None,
            artifacts=named_artifacts(event.kind),
            link=own_link,
        )

    def _note(self, event: FlowEvent) -> None:
        self.named.take(event)
        if isinstance(event.kind, FlowInitialized):
            self.definition_hash, self.step_count = (
                event.kind.definition_hash,
                event.kind.step_count,
            )
        elif isinstance(event.kind, FlowCompleted):
            self.flow_fingerprint = event.kind.flow_fingerprint

    def _attribute(self, event: FlowEvent) -> None:
        """Join the event to those before it that the same person caused for the same reason."""
        who, why = _who(event), _text(event, "reason")
        if not who and not why:
            return
        last = self._attributed
        if last and (last.who, last.why, last.last) == (who, why, event.version - 1):
            self._attributed = replace(last, last=event.version)
            self.attributions[self.attribution_count - 1 :] = [self._attributed]
        else:
            self._attributed = Attribution(who, why, event.version, event.version)
            self.attributions.append(self._attributed)
            self.attribution_count += 1
        del self.attributions[MOST_ATTRIBUTIONS:]


def _who(event: FlowEvent) -> str:
    given = [_text(event, key) for key in ("actor", "on_behalf_of")]
    return ", on behalf of ".join(name for name in given if name)


def _text(event: FlowEvent, key: str) -> str:
    value = event.metadata.get(key, "")
    return short(value if isinstance(value, str) else canonical_json(value).decode())
