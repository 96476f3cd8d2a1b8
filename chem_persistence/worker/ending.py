"""Wait until a flow does not go on by itself."""

import asyncio
from datetime import timedelta
from uuid import UUID

from chem_persistence.domain.answers import FlowSummary
from chem_persistence.domain.definition import FlowDefinition
from chem_persistence.domain.flow_state import FlowState
from chem_persistence.errors import DefinitionMismatch, FlowNotFound
from chem_persistence.store.definitions import explained_mismatch
from chem_persistence.store.outcomes.summary import SummaryFold
from chem_persistence.store.ports import EventStore

__all__ = ["ended_flow"]

FIRST_LOOK = 0.02
"""The seconds from the first look at a flow to the second; each is twice as long as the last."""

_ENDED = frozenset({FlowState.COMPLETED, FlowState.CANCELLED, FlowState.FAILED})


async def ended_flow(
    store: EventStore,
    flow_id: UUID,
    definition: FlowDefinition | None,
    *,
    longest: timedelta | None,
    most_pause: float,
) -> FlowSummary:
    """Return the summary of a flow once it does not go on by itself.

    It is looked at at least every `most_pause` seconds, and for no longer than `longest`.

    Raises:
        TimeoutError, FlowNotFound, DefinitionMismatch: see `FlowClient.result`.
    """
    clock = asyncio.get_running_loop().time
    deadline = None if longest is None else clock() + longest.total_seconds()
    fold, version, pause = SummaryFold(), -1, FIRST_LOOK
    while True:
        for event in await store.list(flow_id, after_version=version):
            fold.take(event)
            version = event.version
        summary = fold.summary()
        if summary is None:
            raise FlowNotFound(flow_id)
        if definition is not None:
            await _check_definition(store, summary, definition)
        if summary.state in _ENDED:
            return summary
        left = pause if deadline is None else deadline - clock()
        if left <= 0:
            raise TimeoutError(f"flow {flow_id} is {summary.state} after {longest}")
        await asyncio.sleep(min(pause, left))
        pause = min(2 * pause, most_pause)


async def _check_definition(
    store: EventStore, summary: FlowSummary, definition: FlowDefinition
) -> None:
    actual = summary.definition_hash
    if actual is not None and actual != definition.definition_hash:
        error = DefinitionMismatch(summary.flow_id, definition.definition_hash, actual)
        raise await explained_mismatch(store, error, definition)
