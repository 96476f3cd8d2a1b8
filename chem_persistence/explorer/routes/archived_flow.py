"""The page of a flow that was archived: what the register has of it, and how to bring it back."""

from uuid import UUID

from starlette.requests import Request
from starlette.responses import Response

from chem_persistence.explorer.rendering import render
from chem_persistence.explorer.sources import sources_of
from chem_persistence.postgres.audit.archived import describe_archived

__all__ = ["show_archived_flow"]


async def show_archived_flow(request: Request, flow_id: UUID) -> Response:
    """Return the page of a flow that is not in the log, and that the register of archives has."""
    found = await describe_archived(sources_of(request).provider, flow_id)
    values = {
        "flow": found.last,
        "earlier": found.earlier,
        "kept": found.kept,
        "more": found.more,
    }
    return render(request, "archived.html", values)
