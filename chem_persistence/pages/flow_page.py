"""A flow as one HTML page that loads nothing, and executes nothing of what it shows."""

from uuid import UUID

from chem_persistence.store.clock import SystemClock
from chem_persistence.store.ports import Clock, EventStore
from chem_persistence.views.flow_view import PageLimits

__all__ = ["flow_page"]


async def flow_page(
    store: EventStore,
    flow_id: UUID,
    *,
    limits: PageLimits | None = None,
    clock: Clock | None = None,
) -> str:
    """Return the page of a flow: its timeline, events, artifacts and molecules.

    The page is text to write into an `.html` file in UTF-8. It shows what the store held when it
    was read; `clock` tells when that was. Molecules are drawn if RDKit is installed (extra `chem`).
    An artifact that is missing, corrupt or above a limit is shown as such. A worker thread draws
    the molecules and writes the page.

    Raises:
        InvalidArgument: the store has no event of this flow.
        UnreadableEvent: an event does not decode, or is missing.
        StoreUnavailable: the store cannot be reached.
    """
    # imported here, because a program that writes no page should not wait for it
    from chem_persistence.pages.gather import PageFold, read_flow  # noqa: PLC0415

    fold = PageFold(limits or PageLimits())
    await read_flow(store, flow_id, fold)
    return await fold.page(store, seen_at=(clock or SystemClock()).now())
