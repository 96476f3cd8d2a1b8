"""Checks of one whole flow: its projection, and its replay in memory."""

import os
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import Any
from uuid import UUID

from msgspec.structs import replace

from chem_persistence import (
    ChemPersistenceError,
    ConnectionProvider,
    FlowDefinition,
    FlowEvent,
    FlowRepository,
    InMemoryEventStore,
    InMemoryFlowRepository,
    PgFlowRepository,
    StepSlot,
    canonical_json,
)
from chem_persistence.postgres.connection.session import Session
from chem_persistence.postgres.schema.statements import statement
from tests.support.faults.worker import Work, three_steps
from tests.support.flows.projection import as_row, projected_slots
from tests.torture.checker.append_check import Logged
from tests.torture.checker.findings import Finding, Flaw

__all__ = ["ENGINE_DEFINITION", "check_projection", "check_replay"]

READ_EXECUTIONS = statement("executions/read_executions")


_MEMORY = InMemoryEventStore()
ENGINE_DEFINITION = three_steps(
    _MEMORY, InMemoryFlowRepository(_MEMORY), Work(Path(os.devnull))
).definition


class _GivenClock:
    def __init__(self) -> None:
        self.time = datetime.min.replace(tzinfo=UTC)

    def now(self) -> datetime:
        return self.time


async def check_projection(
    provider: ConnectionProvider, logged: Sequence[Logged], definition: FlowDefinition
) -> list[Finding]:
    """Compare a flow's step rows with the replay of its events, which uses no SQL."""
    flow_id = logged[0].event.flow_id
    rows = await Session(provider).fetch(READ_EXECUTIONS, flow_id)
    projected = projected_slots(rows, flow_id)
    try:
        instance = await PgFlowRepository(provider).load(
            flow_id, [event.event for event in logged], definition
        )
    except ChemPersistenceError as error:
        return [Finding(Flaw.REPLAY, f"cannot be replayed: {error}", flow_id)]
    replayed = {
        index: as_row(slot)
        for index, slot in enumerate(instance.steps)
        if slot != StepSlot(step_id=slot.step_id)
    }
    untouched = {
        index for index, slot in projected.items() if slot == StepSlot(step_id=slot.step_id)
    }  # a row may exist before anything happened in its step
    wrong = [
        f"step {index}: {projected.get(index)} instead of {replayed.get(index)}"
        for index in sorted((projected.keys() | replayed.keys()) - (untouched - replayed.keys()))
        if projected.get(index) != replayed.get(index)
    ]
    return [Finding(Flaw.PROJECTION, detail, flow_id) for detail in wrong]


async def check_replay(
    provider: ConnectionProvider, logged: Sequence[Logged], definition: FlowDefinition
) -> list[Finding]:
    """Append the same events to a store in memory; compare the events and the replays."""
    flow_id = logged[0].event.flow_id
    clock = _GivenClock()
    memory = InMemoryEventStore(clock=clock)
    for _, group in groupby(logged, key=lambda event: event.token):
        events = [event.event for event in group]
        clock.time = events[0].ts
        await memory.append_kinds(
            flow_id,
            [event.kind for event in events],
            event_ids=[event.event_id for event in events],
            metadata=events[0].metadata,
        )
    found: list[Finding] = []
    for stored, kept in zip(logged, await memory.list(flow_id), strict=True):
        if _comparable(stored.event) != _comparable(kept):
            found.append(
                Finding(Flaw.REPLAY, f"version {stored.version} differs", flow_id, stored.token)
            )
    postgres = await _replayed(PgFlowRepository(provider), flow_id, definition)
    if postgres != await _replayed(InMemoryFlowRepository(memory), flow_id, definition):
        found.append(Finding(Flaw.REPLAY, "the states differ", flow_id))
    return found


def _comparable(event: FlowEvent) -> Any:
    return replace(event, seq=0), canonical_json(event.kind), canonical_json(event.metadata)


async def _replayed(repository: FlowRepository, flow_id: UUID, definition: FlowDefinition) -> Any:
    try:
        return await repository.load(flow_id, None, definition)
    except ChemPersistenceError as error:
        return type(error), str(error)
