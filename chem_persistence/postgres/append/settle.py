"""The outcome of an append whose versions or event ids may be in the log already."""

from collections.abc import Iterable, Sequence
from enum import Enum
from typing import TypeAlias
from uuid import UUID

import msgspec

from chem_persistence.domain.events import FlowEvent
from chem_persistence.domain.hash_chain import GENESIS
from chem_persistence.errors import (
    ChemPersistenceError,
    ConcurrencyConflict,
    FlowArchived,
    FlowSealed,
    HistoryLost,
    StaleLease,
    StoreUnavailable,
)
from chem_persistence.postgres.append.forms.rows import Write
from chem_persistence.postgres.connection.ports import Connection
from chem_persistence.postgres.read.rows import Row, stored_event
from chem_persistence.postgres.schema.statements import statement
from chem_persistence.store.append_request import AppendRequest, Head, is_own_event_id
from chem_persistence.store.codec import StoredEvent
from chem_persistence.store.idempotency import recognise

__all__ = ["Outcome", "Reason", "Refused", "Stored", "TryAgain", "find_originals", "settle"]

PROBE_FLOW = statement("events/probe_flow")
PROBE_LEASE = statement("events/probe_lease")
READ_EVENTS_BY_GIVEN_ID = statement("events/read_events_by_given_id")
READ_EVENTS_BY_OWN_ID = statement("events/read_events_by_own_id")
READ_FLOW_EVENTS = statement("events/read_flow_events")


class Stored(msgspec.Struct, frozen=True, gc=False):
    """The append is in the log, by this attempt or an earlier one."""

    events: list[FlowEvent]


class Refused(msgspec.Struct, frozen=True, gc=False):
    """The append is not stored and is not tried again; its caller gets the error."""

    error: Exception


class Reason(Enum):
    """The reason why an append has to be tried again."""

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
    """Return the outcome of each request whose event ids are in the log, and None for others.

    It is `Stored` if the log has exactly these events, else `Refused`, with `EventIdReused`.
    """
    given = await _read_by_id(connection, requests, is_own=False)
    own = await _read_by_id(connection, requests, is_own=True)
    if own:  # what was committed between the two reads has the other ids as well
        given = await _read_by_id(connection, requests, is_own=False)
    stored = [stored_event(row) for row in (*given, *own)]
    return [_recognised(request, stored) for request in requests]


async def _read_by_id(
    connection: Connection, requests: Sequence[AppendRequest], *, is_own: bool
) -> list[Row]:
    """Return the events that have one of the ids of requests, of one of the two kinds of ids."""
    asked = [
        (request.flow_id, event_id)
        for request in requests
        for event_id in request.event_ids
        if is_own_event_id(event_id) is is_own
    ]
    if not asked:
        return []
    query = READ_EVENTS_BY_OWN_ID if is_own else READ_EVENTS_BY_GIVEN_ID
    flow_ids = list({flow_id for flow_id, _ in asked})
    return await connection.fetch(query, flow_ids, [event_id for _, event_id in asked])


async def settle(
    connection: Connection,
    write: Write,
    known: Head | None,
    collision: Exception | None,
    *,
    lost: bool,
) -> tuple[Outcome, Head | None]:
    """Find out why the versions of a write were not free, and return its outcome.

    Its own earlier attempt took them (`Stored`), or another writer did: `TryAgain`, or `Refused`
    with a conflict if the flow is not at the version that the caller expects. Or nobody did: its
    lease is not held any more (`Refused` with `StaleLease`), the flow is sealed or was archived
    (`Refused` with `FlowSealed` or `FlowArchived`), or the flow no longer has the `known` head,
    which was read or acknowledged, because the log went back to an earlier state, after a failover
    or a restore (`Refused` with `HistoryLost`).

    If the outcome of an earlier attempt is unknown (`lost`), and nobody has taken the versions, the
    server may still be at work on that attempt: so is the outcome then (`StoreUnavailable`).

    `collision` is the error of the statement if a unique key refused it; it is raised if no stored
    event explains it. The second value is the flow's head now, if it was read.
    """
    request, version = write.request, write.head.version
    rows = await connection.fetch(READ_FLOW_EVENTS, request.flow_id, version - 1, len(write.links))
    stored = [stored_event(row) for row in rows]
    if collision is not None and not stored and write.head == write.base:
        raise collision  # the next version is free: another key than the version's collided
    match _recognised(request, stored):
        case Stored() as original:
            return original, Head(stored[-1].version + 1, stored[-1].link)
        case Refused() as refused:
            return refused, None
        case None:
            outcome, head = await _explain(connection, write, known)
            if lost and not stored and _may_be_stored_later(write, outcome):
                return Refused(_at_work(request)), head
            return outcome, head


def _may_be_stored_later(write: Write, outcome: Outcome) -> bool:
    """Return whether an attempt of a write may succeed that is at work while others are left out.

    It began when the lease was held, or stores the appends before it as well. None succeeds after
    an event that is not in the log, be it because the caller expects more events than there are.
    """
    if write.head.version > 0 and write.head.link == GENESIS:
        return False
    match outcome:
        case TryAgain() | Refused(StaleLease() | ConcurrencyConflict()):
            return True
        case _:
            return False


async def _explain(
    connection: Connection, write: Write, known: Head | None
) -> tuple[Outcome, Head | None]:
    """Find out why a write was left out that is not in the log."""
    request = write.request
    if (
        request.lease is not None
        and not request.begins
        and not await connection.fetch(PROBE_LEASE, request.flow_id, request.lease)
    ):
        return Refused(StaleLease(request.flow_id)), None
    count = 0 if known is None else known.version
    (row,) = await connection.fetch(PROBE_FLOW, request.flow_id, count)
    end = Head(row["version"], row["chain_hash"] or GENESIS)
    if end.version == 0 and row["bundle_sha256"] is not None:
        return Refused(FlowArchived(request.flow_id, row["bundle_sha256"])), None
    expected = request.expected_version if write.head == write.base else None
    is_gone = known is not None and known.version > 0 and row["known_hash"] != known.link
    if row["is_standby"] and (is_gone or (expected or 0) > end.version):
        return Refused(_lagging(request)), None
    if is_gone:
        return Refused(_lost(request, count, end.version)), None
    return _at_end(request.flow_id, expected, end.version, is_sealed=row["is_sealed"]), end


def _at_end(flow_id: UUID, expected: int | None, found: int, *, is_sealed: bool) -> Outcome:
    """Return the outcome of a write that did not fit to the end of its flow."""
    if is_sealed:
        return Refused(FlowSealed(flow_id))
    if expected in {None, found}:
        return TryAgain(Reason.RACE)
    return Refused(ConcurrencyConflict(flow_id, expected, found))


def _lost(request: AppendRequest, known: int, found: int) -> HistoryLost:
    return HistoryLost(
        f"flow {request.flow_id}: version {known - 1} was read or acknowledged, but the flow has "
        f"{found} events now, and that version is missing or another event: the log went back to "
        "an earlier state, after a failover or a restore. Load the flow again; the next append "
        "continues where the log ends",
        flow_id=request.flow_id,
        known=known,
        found=found,
    )


def _at_work(request: AppendRequest) -> StoreUnavailable:
    return StoreUnavailable(
        f"flow {request.flow_id}: the connection was lost during an attempt that the server may "
        "still be at work on; whether it takes effect is not known"
    )


def _lagging(request: AppendRequest) -> StoreUnavailable:
    return StoreUnavailable(
        f"flow {request.flow_id} was read from a standby, which has not received all of its "
        "events: let the store read from the primary"
    )


def _recognised(request: AppendRequest, stored: Iterable[StoredEvent]) -> Stored | Refused | None:
    ids = set(request.event_ids)
    own = [event for event in stored if event.flow_id == request.flow_id and event.event_id in ids]
    try:
        events = recognise(request, own)
    except ChemPersistenceError as error:
        return Refused(error)
    return None if events is None else Stored(events)
