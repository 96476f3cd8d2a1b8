"""Who runs the flows, and what waits: for a worker, for a time, for a person."""

from starlette.requests import Request
from starlette.responses import Response

from chem_persistence.explorer.rendering import render
from chem_persistence.explorer.sources import sources_of

__all__ = ["show_fleet"]

MOST_WAITING = 100


async def show_fleet(request: Request) -> Response:
    """Return the workers that have not stopped, and the flows that none of them runs."""
    models = sources_of(request).models
    waiting = await models.waiting_flows(limit=MOST_WAITING + 1)
    values = {
        "workers": await models.workers(),
        "waiting": waiting[:MOST_WAITING],
        "more": len(waiting) > MOST_WAITING,
    }
    return render(request, "fleet.html", values)
