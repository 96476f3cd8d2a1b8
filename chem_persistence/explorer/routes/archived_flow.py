"""The page of a flow that was archived: what the register has of it, and how to bring it back."""

from collections.abc import Sequence
from uuid import UUID

from starlette.requests import Request
from starlette.responses import Response

from chem_persistence.explorer.rendering import render
from chem_persistence.explorer.sources import sources_of
from chem_persistence.postgres.read.search import list_artifacts
from chem_persistence.store.transfer.register import ArchivedFlow

__all__ = ["show_archived_flow"]

MOST_ARTIFACTS = 100


async def show_archived_flow(request: Request, flow_id: UUID) -> Response:
    """Return the page of a flow that is not in the log, and that the register of archives has."""
    sources = sources_of(request)
    rows: Sequence[ArchivedFlow] = await sources.store.find_archived([flow_id])
    kept = await list_artifacts(sources.provider, None, flow_id, limit=MOST_ARTIFACTS + 1)
    values = {
        "flow": rows[-1],
        "earlier": rows[-2::-1],
        "kept": kept[:MOST_ARTIFACTS],
        "more": len(kept) > MOST_ARTIFACTS,
    }
    return render(request, "archived.html", values)
