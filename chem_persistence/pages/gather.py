"""A flow as a page shows it, read from any store."""

from collections.abc import AsyncIterator
from datetime import datetime
from itertools import islice
from uuid import UUID

from chem_persistence.domain.events import FlowEvent
from chem_persistence.errors import InvalidArgument
from chem_persistence.pages.previews.previews import Previews
from chem_persistence.store.ports import EventStore
from chem_persistence.views.flow_view import FlowView
from chem_persistence.views.flow_walk import FlowWalk
from chem_persistence.views.page_limits import PageLimits

__all__ = ["gather_flow"]

EVENTS_A_READ = 500


async def gather_flow(
    store: EventStore, flow_id: UUID, *, seen_at: datetime, limits: PageLimits
) -> FlowView:
    """Read a flow's events, keep of them what the page shows, and read the artifacts that they name.

    Raises:
        InvalidArgument: the flow has no events.
        UnreadableEvent: an event does not decode, or is missing.
        StoreUnavailable: the store cannot be reached.
    """
    walk = FlowWalk(limits)
    async for event in _events(store, flow_id):
        walk.take(event)
    if walk.first is None or walk.last is None:
        raise InvalidArgument("flow_id", f"{flow_id} names no flow of this store")
    previews = Previews(store, limits)
    for artifact_hash, version, role in islice(walk.named, limits.artifacts):
        await previews.add(artifact_hash, version, role)
    steps = walk.tracks.steps()
    return FlowView(
        flow_id=flow_id,
        state=walk.tracks.state,
        began=walk.first.ts,
        last_at=walk.last.ts,
        seen_at=seen_at,
        definition_hash=walk.definition_hash,
        step_count=walk.step_count,
        flow_fingerprint=walk.flow_fingerprint,
        head=walk.link.hex(),
        event_count=walk.last.version + 1,
        events=walk.events(),
        named_steps=len(steps),
        steps=tuple(steps[: limits.steps]),
        attributions=tuple(walk.attributions),
        attribution_count=walk.attribution_count,
        artifact_count=len(walk.named),
        artifacts=tuple(previews.artifacts),
        molecules=previews.molecules(),
        molecule_note=previews.molecule_note(),
    )


async def _events(store: EventStore, flow_id: UUID) -> AsyncIterator[FlowEvent]:
    version = -1
    while page := await store.list(flow_id, after_version=version, limit=EVENTS_A_READ):
        for event in page:
            yield event
        version = page[-1].version
