"""Rebuilds: stored projections of the log, compared with it and corrected while appends continue.

There is one projection, the step rows (`workflow_step_executions`). A first pass compares the rows
of each flow with the fold of its events, without locks. Each flow that differs is then rebuilt in a
transaction of its own, under a lock on its rows.
"""

from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing
from datetime import datetime
from enum import StrEnum
from functools import partial
from itertools import groupby
from typing import Any
from uuid import UUID

import msgspec

from chem_persistence.domain.canonical_json.encode import canonical_json
from chem_persistence.domain.events import FlowEventKind
from chem_persistence.domain.step_rows import StepExecution, execution_changes
from chem_persistence.errors import UnreadableEvent
from chem_persistence.postgres.connection.ports import Connection, ConnectionProvider
from chem_persistence.postgres.connection.session import Session
from chem_persistence.postgres.read.rows import NO_TIME, Row, step_execution
from chem_persistence.postgres.schema.statements import statement
from chem_persistence.store.codec import decode_kind

__all__ = ["Projection", "Rebuild", "rebuild_executions"]

DELETE_EXECUTIONS = statement("rebuild/delete_executions")
INSERT_MISSING_EXECUTIONS = statement("rebuild/insert_missing_executions")
LOCK_EXECUTIONS = statement("rebuild/lock_executions")
READ_EXECUTIONS_OF_FLOWS = statement("rebuild/read_executions_of_flows")
READ_FACTS_OF_FLOW = statement("rebuild/read_facts_of_flow")
READ_STEP_FACT_PAGE = statement("rebuild/read_step_fact_page")
WRITE_EXECUTIONS = statement("rebuild/write_executions")

EVENTS_PER_PAGE = 5_000

_FIRST, _LAST = UUID(int=0), UUID(int=2**128 - 1)
_NO_ROWS = " 0"
"""The end of the tag of a command that changed nothing (PostgreSQL manual, section 53.7)."""


class Projection(StrEnum):
    """A projection that is stored beside the log and can be rebuilt from it."""

    STEP_EXECUTIONS = "workflow_step_executions"


class Rebuild(msgspec.Struct, frozen=True, kw_only=True):
    """The progress of a rebuild: `flows` and `events` compared, and flows `rebuilt`."""

    flows: int = 0
    events: int = 0
    rebuilt: int = 0


async def rebuild_executions(
    provider: ConnectionProvider, *, on_progress: Callable[[Rebuild], None] | None = None
) -> Rebuild:
    """Compare every flow's step rows with its events, and rewrite those that differ.

    Rows that are correct are only read, so a rebuild of a correct table writes nothing. A flow with
    uncommitted changes of another transaction is waited for. Memory holds one page of events, and
    the events of one flow.

    Raises:
        UnreadableEvent: an event does not decode.
        StoreUnavailable, StoreError: the log could not be read, or the rows not written. The flows
            that were rebuilt before that stay so.
    """
    session, progress, after = Session(provider), Rebuild(), _FIRST
    async with aclosing(_flows(session)) as pages:
        async for events, flows in pages:
            last = _LAST if events == 0 else max(flows, default=after)
            rebuilt = await _rebuild_differing(session, flows, await _stored(session, after, last))
            after = last
            progress = Rebuild(
                flows=progress.flows + len(flows),
                events=progress.events + events,
                rebuilt=progress.rebuilt + rebuilt,
            )
            if on_progress is not None:
                on_progress(progress)
    return progress


async def _flows(session: Session) -> AsyncGenerator[tuple[int, Mapping[UUID, list[Row]]]]:
    """Yield, for each page of the log, how many events it has and the flows that it completes.

    Each flow comes with the rows of its step facts. The last flow comes with 0 events.
    """
    position = (_FIRST, -1)
    begun: dict[UUID, list[Row]] = {}
    while rows := await session.fetch(READ_STEP_FACT_PAGE, *position, EVENTS_PER_PAGE):
        for row in rows:
            facts = begun.setdefault(row["flow_id"], [])
            if row["payload"] is not None:
                facts.append(row)
        position = (rows[-1]["flow_id"], rows[-1]["version"])
        unfinished = begun.pop(position[0])
        yield len(rows), begun
        begun = {position[0]: unfinished}
    yield 0, begun


async def _stored(session: Session, after: UUID, last: UUID) -> Mapping[UUID, list[Row]]:
    rows = await session.fetch(READ_EXECUTIONS_OF_FLOWS, after, last)
    return {flow_id: list(own) for flow_id, own in groupby(rows, key=lambda row: row["flow_id"])}


async def _rebuild_differing(
    session: Session, flows: Mapping[UUID, list[Row]], stored: Mapping[UUID, list[Row]]
) -> int:
    """Rebuild the flows whose rows differ from their events; return how many were changed.

    The events and the rows were read one after the other, so a flow may differ only because of an
    append in between; it is then found to be correct under its lock.
    """
    rebuilt = 0
    for flow_id in sorted(flows.keys() | stored.keys()):
        expected = _expected_steps(flow_id, flows.get(flow_id, ()))
        if expected != _stored_steps(flow_id, stored.get(flow_id, ())):
            rebuilt += await session.transaction(
                partial(_rebuild, flow_id=flow_id), isolation="read_committed"
            )
    return rebuilt


async def _rebuild(connection: Connection, flow_id: UUID) -> bool:
    """Make a flow's step rows what its events imply; return whether they were not.

    The rows are locked before the events are read, so an append whose events are not among these
    waits, and applies its changes to the rows that are written here. A step without a row gets an
    empty one first, so that there is a row to lock; an append that inserts the same row is waited
    for. Only a role with the DELETE privilege can remove rows of steps that no event names.
    """
    changed = False
    while True:
        stored = _stored_steps(flow_id, await connection.fetch(LOCK_EXECUTIONS, flow_id))
        expected = _expected_steps(flow_id, await connection.fetch(READ_FACTS_OF_FLOW, flow_id))
        missing = {index: step.step_id for index, step in expected.items() if index not in stored}
        if not missing:
            break
        tag = await connection.execute(
            INSERT_MISSING_EXECUTIONS, flow_id, list(missing), list(missing.values())
        )
        changed = changed or not tag.endswith(_NO_ROWS)
    if expected == stored:
        return changed
    await connection.execute(WRITE_EXECUTIONS, flow_id, *_columns(list(expected.values())))
    if strays := list(stored.keys() - expected.keys()):
        await connection.execute(DELETE_EXECUTIONS, flow_id, strays)
    return True


def _expected_steps(flow_id: UUID, rows: Iterable[Row]) -> Mapping[int, StepExecution]:
    """Fold a flow's events into its steps, by index.

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


def _facts(rows: Iterable[Row]) -> Iterator[tuple[FlowEventKind, datetime]]:
    for row in rows:
        flow_id, version = row["flow_id"], row["version"]
        if row["ts"] is None:
            raise UnreadableEvent(flow_id, version, NO_TIME)
        yield (
            decode_kind(row["payload"] or b"", flow_id, version, row["event_type"]),
            row["ts"],
        )


def _stored_steps(flow_id: UUID, rows: Iterable[Row]) -> Mapping[int, StepExecution | None]:
    """Map the stored step rows, by index; None stands for a row that does not decode."""
    return {row["step_index"]: _readable(flow_id, row) for row in rows}


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
