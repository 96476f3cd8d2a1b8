"""The search: flows, definitions and artifacts by the beginnings of their ids and labels."""

import re
from collections.abc import Sequence
from uuid import UUID

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from chem_persistence.explorer.rendering import render
from chem_persistence.explorer.sources import Sources, sources_of
from chem_persistence.postgres.read.search import (
    HASH_DIGITS,
    UUID_DIGITS,
    find_archived_flows,
    find_artifacts,
    find_definitions,
    find_flows,
)

__all__ = ["search"]

MOST_FOUND = 20
FEWEST_DIGITS = 4
_DIGITS = re.compile("[0-9a-f]*")


async def search(request: Request) -> Response:
    """Return what the text of `q` may mean; a whole id or hash leads to its page.

    Archived flows are found by their ids: the register has no labels.
    """
    sources, text = sources_of(request), request.query_params.get("q", "").strip()
    flows, definitions, artifacts = await _by_digits(sources, text)
    archived = await _archived(sources, text, flows)
    if len(text.replace("-", "")) == UUID_DIGITS and (flows or archived):
        return RedirectResponse(f"/flows/{[*flows, *archived][0]}.html", 303)
    if len(text) == HASH_DIGITS and len(artifacts) == 1:
        return RedirectResponse(f"/artifacts/{artifacts[0]}", 303)
    labelled = await sources.models.flows(label=text, limit=MOST_FOUND) if text else []
    values = {
        "text": text,
        "flows": flows,
        "archived": archived,
        "definitions": definitions,
        "artifacts": artifacts,
        "labelled": labelled,
        "most": MOST_FOUND,
    }
    return render(request, "search.html", values)


async def _by_digits(sources: Sources, text: str) -> tuple[list[UUID], list[str], list[str]]:
    digits = _digits(text, HASH_DIGITS)
    if not digits:
        return [], [], []
    flows: list[UUID] = []
    if len(digits) <= UUID_DIGITS:
        flows = list(await find_flows(sources.provider, digits, most=MOST_FOUND))
    definitions = list(await find_definitions(sources.provider, digits, most=MOST_FOUND))
    artifacts = list(await find_artifacts(sources.provider, digits, most=MOST_FOUND))
    return flows, definitions, artifacts


async def _archived(sources: Sources, text: str, flows: Sequence[UUID]) -> list[UUID]:
    """Return the archived flows whose ids begin so; those that are in the log again are not."""
    digits = _digits(text, UUID_DIGITS)
    if not digits:
        return []
    found = await find_archived_flows(sources.provider, digits, most=MOST_FOUND)
    gone = [flow_id for flow_id, _ in found if flow_id not in flows]
    heads = await sources.store.heads_at([(flow_id, 1) for flow_id in gone]) if gone else ()
    return [flow_id for flow_id, head in zip(gone, heads, strict=True) if not head.events]


def _digits(text: str, most: int) -> str:
    """Return the hexadecimal digits that a text is, if there are enough and not too many."""
    digits = text.lower().replace("-", "")
    return digits if _DIGITS.fullmatch(digits) and FEWEST_DIGITS <= len(digits) <= most else ""
