"""The first page: the newest flows, by state, label, definition, step, error and time."""

from datetime import datetime
from uuid import UUID

from starlette.requests import Request
from starlette.responses import Response

from chem_persistence.domain.answers import FlowSummary
from chem_persistence.domain.artifacts import is_content_hash
from chem_persistence.domain.flow_state import FlowState
from chem_persistence.errors import InvalidArgument
from chem_persistence.explorer.rendering import render
from chem_persistence.explorer.sources import Sources, sources_of
from chem_persistence.postgres.read.search import find_definitions

__all__ = ["list_flows"]

FLOWS_A_PAGE = 50


async def list_flows(request: Request) -> Response:
    """Return a page of flows; `before` is the last flow of the page before this one.

    Raises:
        InvalidArgument: a filter is not one.
    """
    sources, given = sources_of(request), dict(request.query_params)
    last = await _last(sources, given.get("before", ""))
    found = await sources.models.flows(
        state=given.get("state") or None,
        definition_hash=await _definition(sources, given.get("definition", "")),
        before=_time("began", given.get("began", "")) if last is None else last,
        limit=FLOWS_A_PAGE + 1,
        roots=given.get("children") != "shown",
        label=given.get("label") or None,
        step=given.get("step", "").strip() or None,
        error=given.get("error", "").strip() or None,
        since=_time("since", given.get("since", "")),
    )
    listed = found[:FLOWS_A_PAGE]
    values = {
        "flows": listed,
        "given": given,
        "states": list(FlowState),
        "next": listed[-1].flow_id if len(found) > FLOWS_A_PAGE else None,
    }
    return render(request, "flows.html", values)


async def _last(sources: Sources, text: str) -> FlowSummary | None:
    if not text:
        return None
    try:
        last = await sources.models.flow(UUID(text))
    except ValueError as error:
        raise InvalidArgument("before", "must be the id of a flow") from error
    if last is None:
        raise InvalidArgument(
            "before", f"flow {text} is not in the log: if it was archived, begin at the first page"
        )
    return last


async def _definition(sources: Sources, text: str) -> str | None:
    """Return the only definition whose hash begins so; the text itself if there is not one."""
    digits = text.strip().lower()
    if not digits:
        return None
    if is_content_hash(digits):
        return digits
    found = await find_definitions(sources.provider, digits, most=2)
    return found[0] if len(found) == 1 else digits


def _time(field: str, text: str) -> datetime | None:
    """Return the time that a field gives: as the browser sends it, in UTC."""
    if not text:
        return None
    try:
        time = datetime.fromisoformat(text)
    except ValueError as error:
        raise InvalidArgument(field, "must be a time of ISO 8601") from error
    return time if time.tzinfo else datetime.fromisoformat(f"{text}+00:00")
