"""The definitions of flows: their steps with parameters, and how their flows fare."""

from collections import defaultdict

from starlette.requests import Request
from starlette.responses import Response

from chem_persistence.domain.answers import FailureStatistics, StepStatistics
from chem_persistence.explorer.rendering import render
from chem_persistence.explorer.sources import sources_of
from chem_persistence.store.definitions import read_definition
from chem_persistence.views.wording import step_details

__all__ = ["list_definitions"]

MOST_DEFINITIONS = 50


async def list_definitions(request: Request) -> Response:
    """Return the definitions that the statistics know, the one with most executions first."""
    sources = sources_of(request)
    statistics = await sources.models.statistics()
    steps: defaultdict[str, list[StepStatistics]] = defaultdict(list)
    failures: defaultdict[str, list[FailureStatistics]] = defaultdict(list)
    for each in statistics.steps:
        if each.definition_hash is not None:
            steps[each.definition_hash].append(each)
    for failure in statistics.failures:
        if failure.definition_hash is not None:
            failures[failure.definition_hash].append(failure)
    ordered = sorted(steps, key=lambda key: -max(each.executions for each in steps[key]))
    listed = []
    for definition_hash in ordered[:MOST_DEFINITIONS]:
        definition = await read_definition(sources.store, definition_hash)
        known = () if definition is None else definition.steps
        details = {step.id: step_details(step) for step in known}
        order = {step.id: place for place, step in enumerate(known)}
        rows = sorted(steps[definition_hash], key=lambda each: order.get(each.step_id, len(order)))
        listed.append((definition_hash, rows, details, failures[definition_hash]))
    values = {
        "definitions": listed,
        "left": len(ordered) - len(listed),
        "refreshed_at": statistics.refreshed_at,
    }
    return render(request, "definitions.html", values)
