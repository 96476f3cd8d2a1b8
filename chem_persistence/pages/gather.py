"""All that the page of a flow shows, gathered in one pass over its events and artifacts."""

from collections.abc import Sequence
from datetime import datetime
from itertools import chain, islice
from uuid import UUID

from anyio import to_thread
from msgspec.structs import replace

from chem_persistence.domain.events import FlowEvent
from chem_persistence.errors import InvalidArgument
from chem_persistence.pages.page import render_page
from chem_persistence.pages.previews.artifact_previews import Previews
from chem_persistence.store.artifact_reads import list_artifacts
from chem_persistence.store.definitions import read_definition
from chem_persistence.store.leasing.children import ChildReader
from chem_persistence.store.ports import EventStore
from chem_persistence.store.reuse.results import ResultReader
from chem_persistence.views.attributions import Attributions
from chem_persistence.views.children import ChildrenView, children_views, possible_children
from chem_persistence.views.event_listing import EventListing
from chem_persistence.views.flow_fold import FlowFold
from chem_persistence.views.flow_view import FlowView, PageLimits, ServedPage
from chem_persistence.views.origin.branches import is_in_a_tree, read_branch_tree
from chem_persistence.views.origin.parameters import parameter_views

__all__ = ["PageFold", "read_flow"]

EVENTS_A_READ = 500


class PageFold(FlowFold):
    """A fold that also keeps the listed events and their attributions; `page` completes it."""

    def __init__(self, limits: PageLimits) -> None:
        super().__init__(limits)
        self._listing = EventListing(limits)
        self._attributions = Attributions()

    def take(self, event: FlowEvent) -> None:
        """Add the next event."""
        super().take(event)
        self._listing.take(event)
        self._attributions.take(event)

    async def page(
        self, store: EventStore, *, seen_at: datetime, served: ServedPage | None = None
    ) -> str:
        """Read the artifacts that the events name from `store`, and return the page as HTML.

        A page that is `served` links to the other pages of the explorer.

        Raises:
            InvalidArgument: no event was taken.
            StoreUnavailable: the store cannot be reached.
        """
        previews = Previews(self.limits)
        await previews.read(store, islice(self.artifacts, self.limits.artifacts))
        children = await self._children(store) if self.waits else ()
        if self.taken_over is None and self.first and isinstance(store, ResultReader):
            most = self.limits.children + 1
            self.taken_over = await store.taken_over(self.first.flow_id, limit=most)
        view = self._view(previews, children, seen_at)
        if self.first is not None and is_in_a_tree(self.first, has_branches=self.has_branches):
            view = replace(view, branches=await read_branch_tree(store, self.first))
        return await to_thread.run_sync(render_page, replace(view, served=served))

    async def _children(self, store: EventStore) -> Sequence[ChildrenView]:
        if self.first is None or not isinstance(store, ChildReader):
            return ()
        ids = possible_children(self.first.flow_id, self.waits.values())
        states = await store.child_states(list(chain.from_iterable(ids.values())))
        return children_views(self.waits, ids, states, self.limits.children)

    def _view(
        self, previews: Previews, children: Sequence[ChildrenView], seen_at: datetime
    ) -> FlowView:
        if self.first is None or self.last is None:
            raise InvalidArgument("events", "a page needs at least one event")
        steps = self.attempts.steps()
        return FlowView(
            flow_id=self.first.flow_id,
            state=self.attempts.state,
            began=self.first.ts,
            last_at=self.last.ts,
            seen_at=seen_at,
            definition_hash=self.definition_hash,
            name=self.name,
            label=self.label,
            definition=self.definition,
            step_count=self.step_count,
            flow_fingerprint=self.flow_fingerprint,
            cancelled=self.cancelled,
            head=self._listing.link.hex(),
            event_count=self.last.version + 1,
            events=self._listing.events(self.artifacts.stored_with),
            named_steps=len(steps),
            steps=tuple(steps[: self.limits.steps]),
            attributions=tuple(self._attributions.first),
            attribution_count=self._attributions.count,
            parameters=tuple(parameter_views(self.definition, self.parameter_layers)),
            preference_count=self.preference_count,
            preferences=tuple(self.preferences),
            program_count=self.programs.count,
            programs=tuple(self.programs.first),
            artifact_count=len(self.artifacts),
            artifacts=tuple(previews.artifacts),
            molecules=previews.molecules(),
            molecule_note=previews.molecule_note(),
            parent=self.parent,
            children=tuple(children),
            taken_over=tuple(self.taken_over or ()),
        )


async def read_flow(store: EventStore, flow_id: UUID, fold: FlowFold) -> None:
    """Read a flow's events in pages and fold them, and then its artifacts.

    Raises:
        InvalidArgument: the flow has no events.
        UnreadableEvent: an event does not decode, or is missing.
        StoreUnavailable: the store cannot be reached.
    """
    version, is_full = -1, True
    while is_full:
        events = await store.list(flow_id, after_version=version, limit=EVENTS_A_READ)
        for event in events:
            fold.take(event)
            version = event.version
        is_full = len(events) == EVENTS_A_READ
    if fold.first is None:
        raise InvalidArgument("flow_id", f"the store has no flow {flow_id}")
    if fold.definition_hash is not None:
        fold.take_definition(await read_definition(store, fold.definition_hash))
    for stored in await list_artifacts(store, flow_id):
        fold.take_artifact(stored.artifact_hash, stored.version, stored.event_type, stored.step_id)
