"""The search: flows, definitions and artifacts by the beginnings of their ids and labels."""

import re
from uuid import UUID

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from chem_persistence.explorer.rendering import render
from chem_persistence.explorer.sources import Sources, sources_of
from chem_persistence.postgres.read.search import (
    HASH_DIGITS,
    UUID_DIGITS,
    find_artifacts,
    find_definitions,
    find_flows,
)

__all__ = ["search"]

MOST_FOUND = 20
FEWEST_DIGITS = 4
_DIGITS = re.compile("[0-9a-f]*")


async def search(request: Request) -> Response:
    """Return what the text of `q` may mean; a whole id or hash leads to its page."""
    sources, text = sources_of(request), request.query_params.get("q", "").strip()
    flows, definitions, artifacts = await _by_digits(sources, text)
    if len(text.replace("-", "")) == UUID_DIGITS and len(flows) == 1:
        return RedirectResponse(f"/flows/{flows[0]}.html", 303)
    if len(text) == HASH_DIGITS and len(artifacts) == 1:
        return RedirectResponse(f"/artifacts/{artifacts[0]}", 303)
    labelled = await sources.models.flows(label=text, limit=MOST_FOUND) if text else []
    values = {
        "text": text,
        "flows": flows,
        "definitions": definitions,
        "artifacts": artifacts,
        "labelled": labelled,
        "most": MOST_FOUND,
    }
    return render(request, "search.html", values)


async def _by_digits(sources: Sources, text: str) -> tuple[list[UUID], list[str], list[str]]:
    digits = text.lower().replace("-", "")
    if not _DIGITS.fullmatch(digits) or not FEWEST_DIGITS <= len(digits) <= HASH_DIGITS:
        return [], [], []
    flows: list[UUID] = []
    if len(digits) <= UUID_DIGITS:
        flows = list(await find_flows(sources.provider, digits, most=MOST_FOUND))
    definitions = list(await find_definitions(sources.provider, digits, most=MOST_FOUND))
    artifacts = list(await find_artifacts(sources.provider, digits, most=MOST_FOUND))
    return flows, definitions, artifacts
