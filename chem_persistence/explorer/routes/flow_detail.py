"""The page of one flow, as `flow_page` writes it, with links to the rest of the explorer."""

from uuid import UUID

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from chem_persistence.errors import FlowArchived, InvalidArgument
from chem_persistence.explorer.routes.archived_flow import show_archived_flow
from chem_persistence.explorer.sources import sources_of
from chem_persistence.pages.gather import PageFold, read_flow
from chem_persistence.pages.page import page_policy
from chem_persistence.store.clock import SystemClock
from chem_persistence.views.flow_view import PageLimits, ServedPage

__all__ = ["show_flow"]


async def show_flow(request: Request) -> Response:
    """Return the page of a flow, whose policy is stricter than that of the other pages.

    That of an archived flow says where it is.

    Raises:
        HTTPException: 404, the log has no such flow.
    """
    flow_id: UUID = request.path_params["flow_id"]
    store, fold = sources_of(request).store, PageFold(PageLimits())
    try:
        await read_flow(store, flow_id, fold)
    except InvalidArgument as error:
        raise HTTPException(404, f"there is no flow {flow_id}") from error
    except FlowArchived:
        return await show_archived_flow(request, flow_id)
    may_act = request.app.state.permission is not None
    served = ServedPage.WITH_ACTIONS if may_act else ServedPage.READ_ONLY
    html = await fold.page(store, seen_at=SystemClock().now(), served=served)
    headers = {
        "cache-control": "no-store",
        "content-security-policy": f"{page_policy()}; frame-ancestors 'none'",
    }
    return HTMLResponse(html, headers=headers)
