"""The events that a page lists: the first and the last ones of a flow, and runs of signals."""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import groupby
from typing import TypeAlias

from msgspec.structs import replace

from chem_persistence.domain.canonical_json.encode import canonical_json
from chem_persistence.domain.events import FlowEvent, StepSignal, event_type
from chem_persistence.domain.hash_chain import GENESIS, chain_link
from chem_persistence.store.codec import encode_metadata
from chem_persistence.views.attributions import event_actor
from chem_persistence.views.event_line import event_line, event_step
from chem_persistence.views.flow_view import EventView, NoPreview, PageLimits, json_text
from chem_persistence.views.named_artifacts import named_artifacts

__all__ = ["EventListing", "event_runs"]

SHORTEST_RUN = 6
_SIGNAL = event_type(StepSignal)

_Kept: TypeAlias = EventView | Callable[[], EventView]
"""A view, or a function that makes it.

Most events of a long flow are never shown, so their views are not made. Of an event above the limit
the view is made at once, because it holds only the beginning of the payload.
"""


class EventListing:
    """The events to list, and the link of the hash chain; `take` a flow's events in order.

    Its memory is bounded by the limits, not by the length of the flow.
    """

    def __init__(self, limits: PageLimits) -> None:
        self.link = GENESIS
        self._limits = limits
        self._first: list[_Kept] = []
        self._last: deque[_Kept] = deque(maxlen=limits.events // 2)

    def take(self, event: FlowEvent) -> None:
        """Add the next event."""
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
        is_of_first_half = len(self._first) < self._limits.events - self._limits.events // 2
        view = partial(self._view, event, payload, metadata, self.link.hex())
        is_large = len(payload) + len(metadata) > self._limits.text
        (self._first if is_of_first_half else self._last).append(view() if is_large else view)

    def events(self, stored_with: Mapping[int, Sequence[str]]) -> tuple[EventView, ...]:
        """Return the events to list; payloads above the limit for all of them are left out.

        `stored_with` has the artifacts that came with an event which does not name them.
        """
        left = self._limits.embedded
        listed = []
        for kept in (*self._first, *self._last):
            event = kept if isinstance(kept, EventView) else kept()
            if more := stored_with.get(event.version):
                event = replace(event, artifacts=(*event.artifacts, *more))
            left -= sum(len(getattr(part, "text", "")) for part in (event.payload, event.metadata))
            if left >= 0:
                listed.append(event)
                continue
            left_out = NoPreview("not shown: the page's limit for all events is reached")
            listed.append(replace(event, payload=left_out, metadata=None))
        return tuple(listed)

    def _view(self, event: FlowEvent, payload: bytes, metadata: bytes, link: str) -> EventView:
        return EventView(
            version=event.version,
            seq=event.seq,
            event_id=event.event_id,
            ts=event.ts,
            event_type=event.event_type,
            variant=event.variant,
            step=event_step(event.kind),
            summary=event_line(event.kind).detail,
            who=event_actor(event),
            payload=json_text(payload, self._limits.text),
            metadata=json_text(metadata, self._limits.text) if event.metadata else None,
            artifacts=named_artifacts(event.kind),
            link=link,
        )


def event_runs(events: Sequence[EventView]) -> Iterator[Sequence[EventView]]:
    """Yield the events in order, one by one; many signals of a step in a row come together."""
    for step, run in groupby(
        events, lambda event: event.step if event.event_type == _SIGNAL else None
    ):
        together = tuple(run)
        if step is not None and len(together) >= SHORTEST_RUN:
            yield together
        else:
            yield from ((event,) for event in together)
