"""The write path: one append, one transaction."""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import asyncpg
import msgspec

from chem_persistence.append_request import AppendRequest, recognise
from chem_persistence.domain.events import FlowEvent
from chem_persistence.domain.executions import execution_changes
from chem_persistence.ports import Connection
from chem_persistence.postgres.rows import (
    artifact_columns,
    event_columns,
    retry_columns,
    step_columns,
    stored_event,
)
from chem_persistence.postgres.statements import (
    APPEND_EVENTS,
    PROJECT_STEPS,
    READ_EVENTS_BY_ID,
    READ_FLOW_EVENTS,
    READ_FLOW_VERSION,
    SCHEDULE_RETRIES,
    STORE_ARTIFACTS,
)

__all__ = ["Conflict", "append", "find_original", "read_version"]

ROLLBACK_SECONDS = 5.0
"""How long a cancelled append waits for its ROLLBACK; the pool ends a transaction that is still open after that."""


class Conflict(msgspec.Struct, frozen=True):
    """The flow has `actual` events, so that the append did not fit on its end."""

    actual: int


class _NotAtTheEnd(Exception):  # leaves the transaction; never leaves this module
    """The flow does not reach up to the version that the append begins with."""


async def append(connection: Connection, request: AppendRequest, version: int) -> list[FlowEvent] | Conflict:
    """Store the events from `version` on, with their artifacts and step rows, or tell why not.

    May be called again with the same request and version when the outcome of a call is unknown, also while that
    call is still at work on the server: the key (flow_id, version) lets one of them through, and the other waits for
    it and then finds the request's own event ids at those versions.
    """
    try:
        seqs = await _write(connection, request, version)
    except asyncpg.UniqueViolationError:
        return await _settle(connection, request, version)
    except _NotAtTheEnd:
        return Conflict(await read_version(connection, request))
    return request.events(version, seqs)


async def read_version(connection: Connection, request: AppendRequest) -> int:
    """Read how many events the request's flow has."""
    rows = await connection.fetch(READ_FLOW_VERSION, request.flow_id)
    version: int = rows[0]["version"]
    return version


async def find_original(connection: Connection, request: AppendRequest) -> list[FlowEvent] | None:
    """Find the events of an earlier append with the same event ids.

    Raises:
        EventIdReused: an id names an event with other content.
    """
    rows = await connection.fetch(READ_EVENTS_BY_ID, request.flow_id, request.event_ids)
    return recognise(request, [stored_event(row) for row in rows])


async def _write(connection: Connection, request: AppendRequest, version: int) -> list[int]:
    retries, steps = execution_changes(request.kinds, request.ts)
    if not (request.artifacts or retries or steps):
        return await _write_events(connection, request, version)  # one statement is its own transaction
    async with _transaction(connection):
        seqs = await _write_events(connection, request, version)
        if request.artifacts:
            await connection.execute(STORE_ARTIFACTS, *artifact_columns(request, seqs))
        if retries:
            await connection.execute(SCHEDULE_RETRIES, *retry_columns(request, retries))
        if steps:
            await connection.execute(PROJECT_STEPS, *step_columns(request, steps))
    return seqs


@asynccontextmanager
async def _transaction(connection: Connection) -> AsyncIterator[None]:
    """Open a transaction; its ROLLBACK goes through although a cancelled anyio scope cancels every await in it."""
    transaction = connection.transaction()
    await transaction.__aenter__()
    try:
        yield
    except BaseException:
        with anyio.move_on_after(ROLLBACK_SECONDS, shield=True):
            await transaction.__aexit__(*sys.exc_info())
        raise
    await transaction.__aexit__(None, None, None)


async def _write_events(connection: Connection, request: AppendRequest, version: int) -> list[int]:
    rows = await connection.fetch(APPEND_EVENTS, *event_columns(request, version))
    if not rows:
        raise _NotAtTheEnd
    seqs = {row["version"]: row["seq"] for row in rows}
    return [seqs[version + index] for index in range(len(request.kinds))]


async def _settle(connection: Connection, request: AppendRequest, version: int) -> list[FlowEvent] | Conflict:
    """Find out who holds the versions: this append's own earlier attempt, or another writer."""
    rows = await connection.fetch(READ_FLOW_EVENTS, request.flow_id, version - 1, len(request.kinds))
    own = set(request.event_ids)
    originals = recognise(request, [event for event in map(stored_event, rows) if event.event_id in own])
    if originals is not None:
        return originals
    return Conflict(await read_version(connection, request))
