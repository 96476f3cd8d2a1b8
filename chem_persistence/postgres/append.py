"""The write path: one append, one transaction."""

from collections.abc import Sequence

import asyncpg
import msgspec

from chem_persistence.append_request import EMPTY_FLOW, AppendRequest, Head, recognise
from chem_persistence.domain.chain import GENESIS
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
    READ_FLOW_HEAD,
    SCHEDULE_RETRIES,
    STORE_ARTIFACTS,
)
from chem_persistence.postgres.transaction import transaction

__all__ = ["Appended", "Conflict", "append", "find_original", "read_head", "read_head_at"]


class Appended(msgspec.Struct, frozen=True):
    """The events are in the log, and the flow then ended at `head`."""

    events: list[FlowEvent]
    head: Head


class Conflict(msgspec.Struct, frozen=True):
    """The flow has `actual` events, so that the append did not fit on its end."""

    actual: int


class _NotAtTheEnd(Exception):  # leaves the transaction; never leaves this module
    """The flow does not reach up to the version that the append begins with."""


async def append(connection: Connection, request: AppendRequest, head: Head) -> Appended | Conflict:
    """Store the events after the flow's `head`, with their artifacts and step rows, or tell why not.

    May be called again with the same request and head when the outcome of a call is unknown, also while that
    call is still at work on the server: the key (flow_id, version) lets one of them through, and the other waits for
    it and then finds the request's own event ids at those versions.
    """
    links = request.links(head)
    try:
        seqs = await _write(connection, request, head, links)
    except asyncpg.UniqueViolationError:
        return await _settle(connection, request, head)
    except _NotAtTheEnd:
        return Conflict((await read_head(connection, request)).version)
    return Appended(request.events(head.version, seqs), Head(head.version + len(links), links[-1]))


async def read_head(connection: Connection, request: AppendRequest) -> Head:
    """Read where the request's flow ends."""
    return await _read_head(connection, request, None) or EMPTY_FLOW


async def read_head_at(connection: Connection, request: AppendRequest, version: int) -> Head:
    """Read where the request's flow ended when it had `version` events, of which there is one at least.

    A flow that has not so many yet gets a head that no event has: an append to it is a conflict.
    """
    return await _read_head(connection, request, version) or Head(version, GENESIS)


async def _read_head(connection: Connection, request: AppendRequest, version: int | None) -> Head | None:
    rows = await connection.fetch(READ_FLOW_HEAD, request.flow_id, version)
    return Head(rows[0]["version"], rows[0]["chain_hash"]) if rows else None


async def find_original(connection: Connection, request: AppendRequest) -> list[FlowEvent] | None:
    """Find the events of an earlier append with the same event ids.

    Raises:
        EventIdReused: an id names an event with other content.
    """
    rows = await connection.fetch(READ_EVENTS_BY_ID, request.flow_id, request.event_ids)
    return recognise(request, [stored_event(row) for row in rows])


async def _write(
    connection: Connection, request: AppendRequest, head: Head, links: Sequence[bytes]
) -> list[int]:
    retries, steps = execution_changes(request.kinds, request.ts)
    if not (request.artifacts or retries or steps or connection.is_in_transaction()):
        return await _write_events(connection, request, head, links)  # one statement is its own transaction
    async with transaction(connection):
        seqs = await _write_events(connection, request, head, links)
        if request.artifacts:
            await connection.execute(STORE_ARTIFACTS, *artifact_columns(request, seqs))
        if retries:
            await connection.execute(SCHEDULE_RETRIES, *retry_columns(request, retries))
        if steps:
            await connection.execute(PROJECT_STEPS, *step_columns(request, steps))
    return seqs


async def _write_events(
    connection: Connection, request: AppendRequest, head: Head, links: Sequence[bytes]
) -> list[int]:
    rows = await connection.fetch(APPEND_EVENTS, *event_columns(request, head, links))
    if not rows:
        raise _NotAtTheEnd
    seqs = {row["version"]: row["seq"] for row in rows}
    return [seqs[head.version + index] for index in range(len(request.kinds))]


async def _settle(connection: Connection, request: AppendRequest, head: Head) -> Appended | Conflict:
    """Find out who holds the versions: this append's own earlier attempt, or another writer."""
    rows = await connection.fetch(READ_FLOW_EVENTS, request.flow_id, head.version - 1, len(request.kinds))
    ids = set(request.event_ids)
    own = [event for event in map(stored_event, rows) if event.event_id in ids]
    originals = recognise(request, own)
    if originals is not None:
        return Appended(originals, Head(own[-1].version + 1, own[-1].link))
    return Conflict((await read_head(connection, request)).version)
