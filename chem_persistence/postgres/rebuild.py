"""The rebuild of what is stored besides the log, from the log, while appends go on."""

from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from enum import StrEnum
from itertools import groupby
from typing import Any
from uuid import UUID

import msgspec

from chem_persistence.ports import ConnectionProvider
from chem_persistence.postgres.execution_rows import executions_of, rebuild_flow, stored_executions
from chem_persistence.postgres.session import call
from chem_persistence.postgres.statements import READ_EXECUTIONS_OF_FLOWS, READ_STEP_FACT_PAGE

__all__ = ["Projection", "Rebuild", "rebuild_executions"]

PAGE_SIZE = 5_000

_NIL, _LAST = UUID(int=0), UUID(int=2**128 - 1)


class Projection(StrEnum):
    """What is stored besides the log and can be made from it."""

    STEP_EXECUTIONS = "workflow_step_executions"


class Rebuild(msgspec.Struct, frozen=True, kw_only=True):
    """How far a rebuild is: `flows` and `events` looked at; the rows of `rebuilt` flows were not what the log says."""

    flows: int = 0
    events: int = 0
    rebuilt: int = 0


async def rebuild_executions(
    provider: ConnectionProvider, *, on_progress: Callable[[Rebuild], None] | None = None
) -> Rebuild:
    """Compare every flow's step rows with its events, and write anew those that differ, each flow in its own transaction.

    Rows that are as they should be are only read, so a rebuild of a sound table writes nothing. A flow that another
    transaction has changed and not committed yet is waited for. Memory holds one page of events, and one flow's.

    Raises:
        UnreadableEvent: an event does not decode.
        StoreUnavailable, StoreError: the log could not be read or the rows not written. What was rebuilt until then stays.
    """
    progress, after = Rebuild(), _NIL
    async with aclosing(_flows(provider)) as pages:
        async for events, flows in pages:
            last = _LAST if events == 0 else max(flows, default=after)
            rebuilt = await _rebuild_differing(provider, flows, await _stored(provider, after, last))
            after = last
            progress = Rebuild(
                flows=progress.flows + len(flows),
                events=progress.events + events,
                rebuilt=progress.rebuilt + rebuilt,
            )
            if on_progress is not None:
                on_progress(progress)
    return progress


async def _rebuild_differing(
    provider: ConnectionProvider, flows: Mapping[UUID, list[Any]], stored: Mapping[UUID, list[Any]]
) -> int:
    """Rebuild the flows whose events and rows, read one after the other, differ; gives how many still did under a lock."""
    rebuilt = 0
    for flow_id in sorted(flows.keys() | stored.keys()):
        expected = executions_of(flow_id, flows.get(flow_id, ()))
        if expected != stored_executions(flow_id, stored.get(flow_id, ())):
            rebuilt += await rebuild_flow(provider, flow_id)
    return rebuilt


async def _flows(provider: ConnectionProvider) -> AsyncGenerator[tuple[int, Mapping[UUID, list[Any]]]]:
    """Give the flows that each page of the log completes, with what their step rows are made of; at last 0 events."""
    place = (_NIL, -1)
    begun: dict[UUID, list[Any]] = {}
    while rows := await _fetch(provider, READ_STEP_FACT_PAGE, *place, PAGE_SIZE):
        for row in rows:
            facts = begun.setdefault(row["flow_id"], [])
            if row["payload"] is not None:
                facts.append(row)
        place = (rows[-1]["flow_id"], rows[-1]["version"])
        unfinished = begun.pop(place[0])
        yield len(rows), begun
        begun = {place[0]: unfinished}
    yield 0, begun


async def _stored(provider: ConnectionProvider, after: UUID, last: UUID) -> Mapping[UUID, list[Any]]:
    rows = await _fetch(provider, READ_EXECUTIONS_OF_FLOWS, after, last)
    return {flow_id: list(own) for flow_id, own in groupby(rows, key=lambda row: row["flow_id"])}


async def _fetch(provider: ConnectionProvider, statement: str, *arguments: object) -> list[Any]:
    return await call(provider, lambda connection: connection.fetch(statement, *arguments))
