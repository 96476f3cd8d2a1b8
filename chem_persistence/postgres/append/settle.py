"""What became of an append that an earlier attempt, or another writer, may have stored."""

from collections.abc import Iterable, Sequence
from enum import Enum
from typing import TypeAlias

import msgspec

from chem_persistence.domain.events import FlowEvent
from chem_persistence.domain.hash_chain import GENESIS
from chem_persistence.errors import ChemPersistenceError, ConcurrencyConflict
from chem_persistence.postgres.append.documents import Write
from chem_persistence.postgres.connection.ports import Connection
from chem_persistence.postgres.read.rows import stored_event
from chem_persistence.postgres.schema.statements import statement
from chem_persistence.store.append_request import AppendRequest, Head
from chem_persistence.store.codec import StoredEvent
from chem_persistence.store.idempotency import recognise

__all__ = ["Outcome", "Reason", "Refused", "Stored", "TryAgain", "find_originals", "settle"]

READ_EVENTS_BY_ID = statement("events/read_events_by_id")
READ_FLOW_EVENTS = statement("events/read_flow_events")
READ_FLOW_HEADS = statement("events/read_flow_heads")


class Stored(msgspec.Struct, frozen=True, gc=False):
    """The append is in the log, by this attempt or an earlier one."""

    events: list[FlowEvent]


class Refused(msgspec.Struct, frozen=True, gc=False):
    """The append is not stored and will not be; its caller gets the error."""

    error: Exception


class Reason(Enum):
    """Why an append has to be tried again."""

    BEHIND = "it waits for an append before it"
    RACE = "another writer took its version first"
    LOCKED = "another transaction holds a lock that it needs"


class TryAgain(msgspec.Struct, frozen=True, gc=False):
    """The append is not stored yet; it may be tried again at any time."""

    reason: Reason


Outcome: TypeAlias = Stored | Refused | TryAgain


async def find_originals(
    connection: Connection, requests: Sequence[AppendRequest]
) -> list[Stored | Refused | None]:
    """Return the outcome of each request whose event ids are in the log, and None for others."""
    rows = await connection.fetch(
        READ_EVENTS_BY_ID,
        list({request.flow_id for request in requests}),
        [event_id for request in requests for event_id in request.event_ids],
    )
    stored = [stored_event(row) for row in rows]
    return [_recognised(request, stored) for request in requests]


async def settle(
    connection: Connection, write: Write, collision: Exception | None
) -> tuple[Outcome, Head | None]:
    """Find out who took the versions of a write: its own earlier attempt, or another writer.

    Returns the outcome, and the end of the flow if it is known. `collision` is the error of the
    statement if a unique key refused it; it is raised if no event explains it.
    """
    request, version = write.request, write.head.version
    rows = await connection.fetch(READ_FLOW_EVENTS, request.flow_id, version - 1, len(write.links))
    stored = [stored_event(row) for row in rows]
    if collision is not None and not stored and write.head == write.base:
        raise collision  # with something else than the flow's next version
    match _recognised(request, stored):
        case Stored() as original:
            return original, Head(stored[-1].version + 1, stored[-1].link)
        case Refused() as refused:
            return refused, None
        case None:
            pass
    (row,) = await connection.fetch(READ_FLOW_HEADS, [request.flow_id], [None])
    end = Head(row["version"], row["chain_hash"] or GENESIS)
    if request.expected_version in {None, end.version} or write.head != write.base:
        return TryAgain(Reason.RACE), end
    conflict = ConcurrencyConflict(request.flow_id, request.expected_version, end.version)
    return Refused(conflict), end


def _recognised(request: AppendRequest, stored: Iterable[StoredEvent]) -> Stored | Refused | None:
    ids = set(request.event_ids)
    own = [event for event in stored if event.flow_id == request.flow_id and event.event_id in ids]
    try:
        events = recognise(request, own)
    except ChemPersistenceError as error:
        return Refused(error)
    return None if events is None else Stored(events)
