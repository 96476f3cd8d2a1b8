"""Find the flows that workers give back since their events cannot be read or replayed.

A worker that claims such a flow gives it back for a minute, and for twice as long each time, up to
an hour. Nothing is stored of that, so the flows that are due within the next hour are loaded here
as a worker does: from their events, and their definition as it is stored.
"""

from collections.abc import Sequence
from uuid import UUID

from chem_persistence.domain.definition import FlowDefinition
from chem_persistence.domain.events import FlowEvent
from chem_persistence.domain.instance import initial_instance
from chem_persistence.domain.replay import replay
from chem_persistence.errors import ChemPersistenceError, FlowArchived, UnreadableEvent
from chem_persistence.postgres.event_store import PgEventStore
from chem_persistence.postgres.read.rows import Row
from chem_persistence.store.definitions import read_definition

__all__ = ["MOST_LOADED", "find_unloadable"]

MOST_LOADED = 100
"""So many flows are loaded, first those whose time nothing in their step rows explains."""


async def find_unloadable(
    store: PgEventStore, rows: Sequence[Row]
) -> list[tuple[UUID, ChemPersistenceError]]:
    """Return the flows of these rows that cannot be loaded, and why."""
    definitions: dict[str, FlowDefinition | None] = {}
    found: list[tuple[UUID, ChemPersistenceError]] = []
    logs = await _logs(store, [UUID(int=row["flow_id"].int) for row in rows])
    for row, (flow_id, events) in zip(rows, logs.items(), strict=True):
        definition_hash = row["definition_hash"]
        if definition_hash not in definitions:
            definitions[definition_hash] = await read_definition(store, definition_hash)
        error = _error(flow_id, events, definitions[definition_hash])
        if error is not None:
            found.append((flow_id, error))
    return found


async def _logs(
    store: PgEventStore, flow_ids: Sequence[UUID]
) -> dict[UUID, list[FlowEvent] | UnreadableEvent | FlowArchived]:
    """Return the events of flows, or the error with which they cannot be read."""
    try:
        return {**await store.list_many(flow_ids)}
    except (UnreadableEvent, FlowArchived) as error:
        if len(flow_ids) == 1:
            return {flow_ids[0]: error}
    half = len(flow_ids) // 2
    return await _logs(store, flow_ids[:half]) | await _logs(store, flow_ids[half:])


def _error(
    flow_id: UUID,
    events: list[FlowEvent] | UnreadableEvent | FlowArchived,
    definition: FlowDefinition | None,
) -> ChemPersistenceError | None:
    if isinstance(events, FlowArchived):  # since its row was read
        return None
    if isinstance(events, UnreadableEvent):
        return events
    if definition is None:  # of a flow that was begun by hand; a worker has it in its program
        return None
    try:
        replay(initial_instance(flow_id, definition), events, definition)
    except ChemPersistenceError as error:
        return error
    return None
