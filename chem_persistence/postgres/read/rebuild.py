"""The rebuild of what is stored besides the log, from the log, while appends go on."""

from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing
from datetime import datetime
from enum import StrEnum
from itertools import groupby
from typing import Any
from uuid import UUID

import msgspec

from chem_persistence.domain.canonical_json.encode import canonical_json
from chem_persistence.domain.events import FlowEventKind
from chem_persistence.domain.step_rows import StepExecution, execution_changes
from chem_persistence.errors import UnreadableEvent
from chem_persistence.postgres.connection.ports import Connection, ConnectionProvider
from chem_persistence.postgres.connection.session import call
from chem_persistence.postgres.read.rows import Row, step_execution
from chem_persistence.postgres.schema.statements import statement
from chem_persistence.store.codec import decode_typed_kind

__all__ = [
    "Projection",
    "Rebuild",
    "executions_of",
    "rebuild_executions",
    "rebuild_flow",
    "stored_executions",
]

DELETE_EXECUTIONS = statement("rebuild/delete_executions")
INSERT_MISSING_EXECUTIONS = statement("rebuild/insert_missing_executions")
LOCK_EXECUTIONS = statement("rebuild/lock_executions")
READ_EXECUTIONS_OF_FLOWS = statement("rebuild/read_executions_of_flows")
READ_FACTS_OF_FLOW = statement("rebuild/read_facts_of_flow")
READ_STEP_FACT_PAGE = statement("rebuild/read_step_fact_page")
WRITE_EXECUTIONS = statement("rebuild/write_executions")


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
            rebuilt = await _rebuild_differing(
                provider, flows, await _stored(provider, after, last)
            )
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


async def _flows(
    provider: ConnectionProvider,
) -> AsyncGenerator[tuple[int, Mapping[UUID, list[Any]]]]:
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


async def _stored(
    provider: ConnectionProvider, after: UUID, last: UUID
) -> Mapping[UUID, list[Any]]:
    rows = await _fetch(provider, READ_EXECUTIONS_OF_FLOWS, after, last)
    return {flow_id: list(own) for flow_id, own in groupby(rows, key=lambda row: row["flow_id"])}


async def _fetch(provider: ConnectionProvider, statement: str, *arguments: object) -> list[Any]:
    return await call(provider, lambda connection: connection.fetch(statement, *arguments))


_NO_ROWS = (
    " 0"  # how the tag of such a command ends: PostgreSQL manual, section 53.7, CommandComplete
)


def executions_of(flow_id: UUID, rows: Iterable[Row]) -> Mapping[int, StepExecution]:
    """Fold a flow's events into its step rows, by index.

    Raises:
        UnreadableEvent: an event does not decode, or has no time that a datetime can hold.
    """
    _, changes = execution_changes(_facts(rows))
    return {
        change.step_index: StepExecution(
            flow_id=flow_id,
            step_index=change.step_index,
            step_id=change.step_id,
            status=change.status,
            attempts=change.attempts,
            retry_count=change.retry_count or 0,
            fingerprint=change.fingerprint,
            started_at=change.started_at,
            finished_at=change.finished_at,
            error=change.error,
        )
        for change in changes
    }


def stored_executions(flow_id: UUID, rows: Iterable[Row]) -> Mapping[int, StepExecution | None]:
    """Map the step rows that are in the table; None stands for one that cannot be read."""
    return {row["step_index"]: _readable(flow_id, row) for row in rows}


async def rebuild_flow(provider: ConnectionProvider, flow_id: UUID) -> bool:
    """Make a flow's step rows what its events say, and say whether they were not.

    Its rows are locked before its events are read: an append that is not among these waits, and its changes come on top
    of what is written here. A step that has no row gets an empty one first, so that there is something to lock; an
    append that brings the row at the same moment is waited for. Only a role that may DELETE can remove rows of steps
    that no event speaks of.

    Raises:
        UnreadableEvent: an event does not decode.
        StoreUnavailable, StoreError: the rows could not be read or written.
    """

    async def rebuild(connection: Connection) -> bool:
        async with connection.transaction(isolation="read_committed"):
            return await _rebuild(connection, flow_id)

    return await call(provider, rebuild)


async def _rebuild(connection: Connection, flow_id: UUID) -> bool:
    changed = False
    while True:
        stored = stored_executions(flow_id, await connection.fetch(LOCK_EXECUTIONS, flow_id))
        rebuilt = executions_of(flow_id, await connection.fetch(READ_FACTS_OF_FLOW, flow_id))
        missing = {index: step.step_id for index, step in rebuilt.items() if index not in stored}
        if not missing:
            break
        status = await connection.execute(
            INSERT_MISSING_EXECUTIONS, flow_id, list(missing), list(missing.values())
        )
        changed = changed or not status.endswith(_NO_ROWS)
    if rebuilt == stored:
        return changed
    await connection.execute(WRITE_EXECUTIONS, flow_id, *_columns(list(rebuilt.values())))
    if strays := list(stored.keys() - rebuilt.keys()):
        await connection.execute(DELETE_EXECUTIONS, flow_id, strays)
    return True


def _facts(rows: Iterable[Row]) -> Iterator[tuple[FlowEventKind, datetime]]:
    for row in rows:
        flow_id, version = row["flow_id"], row["version"]
        if row["ts"] is None:
            raise UnreadableEvent(flow_id, version, "has no time, or one that is out of range")
        yield (
            decode_typed_kind(row["event_type"], row["payload"] or b"", flow_id, version),
            row["ts"],
        )


def _readable(flow_id: UUID, row: Row) -> StepExecution | None:
    try:
        return step_execution(row, flow_id)
    except UnreadableEvent:
        return None


def _columns(steps: Sequence[StepExecution]) -> Sequence[Sequence[Any]]:
    return (
        [step.step_index for step in steps],
        [step.step_id for step in steps],
        [step.status.value for step in steps],
        [step.attempts for step in steps],
        [step.retry_count for step in steps],
        [step.fingerprint for step in steps],
        [step.started_at for step in steps],
        [step.finished_at for step in steps],
        [None if step.error is None else canonical_json(step.error).decode() for step in steps],
    )
