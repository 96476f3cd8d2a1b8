"""The failures of steps, the newest first, by step and class of the error."""

from starlette.requests import Request
from starlette.responses import Response

from chem_persistence.explorer.rendering import render
from chem_persistence.explorer.sources import sources_of

__all__ = ["list_failures"]

MOST_READ = 1_000
MOST_SHOWN = 100


async def list_failures(request: Request) -> Response:
    """Return the newest failures of the last thousand that fit the filters."""
    given = dict(request.query_params)
    step, error = given.get("step", "").strip(), given.get("error", "").strip().lower()
    read = await sources_of(request).models.step_errors(limit=MOST_READ)
    fitting = [
        each
        for each in read
        if (not step or each.step_id == step)
        and (not error or error in f"{each.error.error_class}: {each.error.message}".lower())
    ]
    values = {
        "failures": fitting[:MOST_SHOWN],
        "fitting": len(fitting),
        "read": len(read),
        "most": MOST_READ,
        "given": given,
        "steps": sorted({each.step_id for each in read}),
    }
    return render(request, "failures.html", values)
