"""One flow as one page: HTML that holds all it needs, runs nothing of what it shows, and asks nobody for anything."""

from uuid import UUID

from anyio import to_thread

from chem_persistence.store.clock import SystemClock
from chem_persistence.store.ports import Clock, EventStore
from chem_persistence.views.page_limits import PageLimits

__all__ = ["flow_page"]


async def flow_page(
    store: EventStore,
    flow_id: UUID,
    *,
    limits: PageLimits | None = None,
    clock: Clock | None = None,
) -> str:
    """Give a flow's page: its timeline, events, artifacts and molecules, as UTF-8 text to write into an `.html` file.

    The page is what the store held when it was read; `clock` says when that was. Molecules are drawn where RDKit is
    installed (extra `chem`). An artifact that is missing, corrupt or above a limit is shown as such. Drawing and writing are done in a worker thread.

    Raises:
        InvalidArgument: the store has no event of such a flow.
        UnreadableEvent: an event does not decode, or is missing.
        StoreUnavailable: the store cannot be reached.
    """
    from chem_persistence.pages.gather import gather_flow  # noqa: PLC0415  # who writes no page does not wait for it
    from chem_persistence.pages.page import render_page  # noqa: PLC0415

    view = await gather_flow(
        store, flow_id, seen_at=(clock or SystemClock()).now(), limits=limits or PageLimits()
    )
    return await to_thread.run_sync(render_page, view)
