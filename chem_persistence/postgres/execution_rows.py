"""The step rows that a flow's events make, and the rebuild of those that are in the table."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from chem_persistence.codec import decode_typed_kind
from chem_persistence.domain.canonical import canonical_json
from chem_persistence.domain.events import FlowEventKind
from chem_persistence.domain.executions import execution_changes
from chem_persistence.domain.step_execution import StepExecution
from chem_persistence.errors import UnreadableEvent
from chem_persistence.ports import Connection, ConnectionProvider
from chem_persistence.postgres.read_rows import step_execution
from chem_persistence.postgres.rows import Row
from chem_persistence.postgres.session import call
from chem_persistence.postgres.statements import (
    DELETE_EXECUTIONS,
    INSERT_MISSING_EXECUTIONS,
    LOCK_EXECUTIONS,
    READ_FACTS_OF_FLOW,
    WRITE_EXECUTIONS,
)

__all__ = ["executions_of", "rebuild_flow", "stored_executions"]

_NO_ROWS = " 0"  # how the tag of such a command ends: PostgreSQL manual, section 53.7, CommandComplete


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
        yield decode_typed_kind(row["event_type"], row["payload"] or b"", flow_id, version), row["ts"]


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
