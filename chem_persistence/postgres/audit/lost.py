"""What was known of the log and is not in it: the events and the heads of flows that are gone.

After a failover or a restore other events may have the versions of lost ones. So an event is
compared by its id, and a head by its hash-chain link.
"""

from collections.abc import AsyncIterator, Iterable, Iterator
from enum import StrEnum
from itertools import islice
from typing import Annotated, Any, TypeVar
from uuid import UUID

import msgspec

from chem_persistence.errors import StoreUnavailable
from chem_persistence.postgres.connection.ports import ConnectionProvider
from chem_persistence.postgres.connection.session import Session
from chem_persistence.postgres.schema.statements import statement
from chem_persistence.store.checks import MAX_VERSION
from chem_persistence.store.transfer.anchors import Anchor

__all__ = ["Loss", "LostEvent", "LostHead", "SeenEvent", "find_lost_events", "find_lost_heads"]

FIND_ARCHIVED_HEADS = statement("verification/find_archived_heads")
FIND_EVENTS_AT = statement("lost/find_events_at")
FIND_HEADS_AT = statement("lost/find_heads_at")

PER_STATEMENT = 1_000

Known = TypeVar("Known", "SeenEvent", Anchor)


class SeenEvent(msgspec.Struct, frozen=True):
    """An event that a subscriber has; other members of its JSON object are ignored."""

    flow_id: UUID
    version: Annotated[int, msgspec.Meta(ge=0, le=MAX_VERSION)]
    event_id: UUID


class Loss(StrEnum):
    """What became of an event or of a flow."""

    GONE = "gone"
    REPLACED = "replaced"


class LostEvent(msgspec.Struct, frozen=True):
    """An event that was seen and is not there; `replaced_by` is the event at its version."""

    flow_id: UUID
    version: int
    event_id: UUID
    state: Loss
    replaced_by: UUID | None


class LostHead(msgspec.Struct, frozen=True):
    """A flow that had `known` events, and has `found` now: fewer ones, or not the same ones."""

    flow_id: UUID
    state: Loss
    known: int
    found: int


async def find_lost_events(
    provider: ConnectionProvider, events: Iterable[SeenEvent]
) -> AsyncIterator[LostEvent]:
    """Yield those of the events that the log does not have, in constant memory.

    Those of flows that were archived are not lost.

    Raises:
        StoreUnavailable: the database cannot be reached, or is a standby that lacks events.
        StoreError: the database refused.
    """
    async for seen, row in _looked_up(provider, FIND_EVENTS_AT, events):
        if row["event_id"] != seen.event_id:
            if row["event_id"] is None and await _archived(provider, seen.flow_id) > seen.version:
                continue
            _check_primary(row)
            found = row["event_id"]
            state = Loss.GONE if found is None else Loss.REPLACED
            yield LostEvent(seen.flow_id, seen.version, seen.event_id, state, found)


async def find_lost_heads(
    provider: ConnectionProvider, anchors: Iterable[Anchor]
) -> AsyncIterator[LostHead]:
    """Yield the flows that are shorter than their anchors, or have another history up to there.

    Raises what `find_lost_events` raises.
    """
    async for anchor, row in _looked_up(provider, FIND_HEADS_AT, anchors):
        link = row["chain_hash"]
        if link is None or link.hex() != anchor.link:
            if link is None and await _archived(provider, anchor.flow_id) >= anchor.version:
                continue
            _check_primary(row)
            state = Loss.GONE if link is None else Loss.REPLACED
            yield LostHead(anchor.flow_id, state, anchor.version, row["version"])


async def _archived(provider: ConnectionProvider, flow_id: UUID) -> int:
    """Return with how many events a flow was archived that is not in the log; 0 if it was not."""
    rows = await Session(provider).fetch(FIND_ARCHIVED_HEADS, [flow_id])
    return max((row["version"] for row in rows), default=0)


async def _looked_up(
    provider: ConnectionProvider, lookup: str, known: Iterable[Known]
) -> AsyncIterator[tuple[Known, Any]]:
    session = Session(provider)
    for part in _parts(known):
        rows = await session.fetch(
            lookup, [each.flow_id for each in part], [each.version for each in part]
        )
        for each, row in zip(part, rows, strict=True):
            yield each, row


def _parts(known: Iterable[Known]) -> Iterator[list[Known]]:
    remaining = iter(known)
    while part := list(islice(remaining, PER_STATEMENT)):
        yield part


def _check_primary(row: Any) -> None:
    if row["is_standby"]:
        raise StoreUnavailable(
            "events are missing on this server, but it is a standby, which may not have received "
            "them yet: compare with the primary"
        )
