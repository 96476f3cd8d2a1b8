"""The errors of the log: events and artifacts that cannot be stored, read, found or replayed."""

from collections.abc import Sequence
from typing import TYPE_CHECKING
from uuid import UUID

from chem_persistence.errors.values import ChemPersistenceError

if TYPE_CHECKING:
    from chem_persistence.store.feed_position import FeedPosition

__all__ = [
    "ArchiveHeld",
    "ArtifactCorrupt",
    "ArtifactNotFound",
    "ConcurrencyConflict",
    "EventIdReused",
    "EventsArchived",
    "FlowArchived",
    "FlowNotFound",
    "FlowSealed",
    "HistoryLost",
    "StaleLease",
    "UnreadableEvent",
    "UnreplayableEvent",
]


class UnreadableEvent(ChemPersistenceError):
    """A stored event is of an unknown kind, has a bad field, or is missing."""

    def __init__(self, flow_id: UUID, version: int, reason: str) -> None:
        super().__init__(f"flow {flow_id}, version {version}: {reason}")
        self.flow_id = flow_id
        self.version = version
        self.reason = reason


class UnreplayableEvent(ChemPersistenceError):
    """An event decodes, but contradicts the events before it or the definition."""

    def __init__(self, flow_id: UUID, version: int, reason: str) -> None:
        super().__init__(f"flow {flow_id}, version {version}: {reason}")
        self.flow_id = flow_id
        self.version = version
        self.reason = reason


class ConcurrencyConflict(ChemPersistenceError):
    """The flow has `actual` events where the caller expected `expected`; nothing was stored.

    If `actual` is the smaller number, the caller was mistaken, or the log went back to an earlier
    state.
    """

    def __init__(self, flow_id: UUID, expected: int, actual: int) -> None:
        cause = (
            "another writer appended to it"
            if actual > expected
            else "it is shorter than the caller expects; if it had that many events, the log went "
            "back to an earlier state, after a failover or a restore"
        )
        super().__init__(
            f"flow {flow_id}: expected version {expected}, actual version {actual}: {cause}; load "
            "the flow again"
        )
        self.flow_id = flow_id
        self.expected = expected
        self.actual = actual


class StaleLease(ChemPersistenceError):
    """The flow is not held by the lease with which the append was made; it was not stored.

    The lease ended and another worker claimed the flow, or the flow was released, completed or
    cancelled meanwhile. Its next holder goes on from what the log has: drop the flow, and append
    nothing more with this lease. If the reply of an earlier attempt at the append was lost, that
    attempt may still be stored; the next holder of the flow then finds its events in the log.
    """

    def __init__(self, flow_id: UUID) -> None:
        super().__init__(
            f"flow {flow_id} is not held by this lease any more: another worker claimed it, or it "
            "was released, completed or cancelled; drop it, and go on with another flow"
        )
        self.flow_id = flow_id


class HistoryLost(ChemPersistenceError):
    """Events that this program had read, or that were acknowledged to it, are not in the log.

    The log went back to an earlier state: a standby was promoted that had not received all of it,
    a backup was restored, or the server crashed with `synchronous_commit = off`. Nothing was
    stored. Of an append, `known` is the number of events that the flow had, and `found` the number
    that it has; of the feed, `known` is the `seq` that was seen, and `found` the last one that the
    feed has. `flow_id` is None if only a `seq` was known. Later events get the numbers of lost
    ones, so `found` may be the larger number.
    """

    def __init__(self, reason: str, *, flow_id: UUID | None, known: int, found: int) -> None:
        super().__init__(reason)
        self.reason = reason
        self.flow_id = flow_id
        self.known = known
        self.found = found


class FlowSealed(ChemPersistenceError):
    """The flow has its last event, a seal, which no other event may follow; nothing was stored."""

    def __init__(self, flow_id: UUID, reason: str | None = None) -> None:
        super().__init__(
            reason
            or f"flow {flow_id} is sealed: it takes no more events; what follows from it belongs "
            "into another flow, or a branch"
        )
        self.flow_id = flow_id


class FlowArchived(FlowSealed):
    """The flow was archived: its events are in the bundle with the SHA-256 `bundle_sha256`.

    Nothing can be appended under its id. Import the bundle to read the flow. A reader that gets
    this after some of the flow's events has read a part of it: it was archived meanwhile.
    """

    def __init__(self, flow_id: UUID, bundle_sha256: str) -> None:
        super().__init__(
            flow_id,
            f"flow {flow_id} was archived: its events are in the bundle with the SHA-256 "
            f"{bundle_sha256}; import that to read the flow",
        )
        self.bundle_sha256 = bundle_sha256


class EventsArchived(ChemPersistenceError):
    """Flows were archived before this follower of the feed had read them to their end.

    `count` is how many flows; `flows` are the ids of the first of them, at most 100, in the order
    in which they were archived. `position` is where the follower is: events of these flows after it
    are in bundles, and no longer in the feed. Go on from `past_archive()`: a follower is not told
    of them again from there.
    """

    def __init__(
        self, position: "FeedPosition", flows: Sequence[UUID], count: int, archived: int
    ) -> None:
        super().__init__(
            f"{count} flow{'s' * (count > 1)} with events after position {position.seq} of the "
            f"feed left the log before they were read: {', '.join(map(str, flows[:3]))}"
            f"{', ...' * (count > len(flows[:3]))}; their events are in bundles: go on from "
            "past_archive()"
        )
        self.position = position
        self.flows = flows
        self.count = count
        self._archived = archived

    def past_archive(self) -> "FeedPosition":
        """Return the position from which the follower goes on, without what was archived."""
        return self.position.with_archived(self._archived)


class ArchiveHeld(ChemPersistenceError):
    """The flows were not archived, and nothing was deleted.

    A durable consumer has not consumed one to its end, or has it parked; or one has changed.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(f"not archived: {reason}")
        self.reason = reason


class EventIdReused(ChemPersistenceError):
    """The event id names an event of this flow with other content; nothing was stored."""

    def __init__(self, flow_id: UUID, event_id: UUID) -> None:
        super().__init__(
            f"flow {flow_id}: event id {event_id} names an event with other content: use a new id "
            "for every new event"
        )
        self.flow_id = flow_id
        self.event_id = event_id


class FlowNotFound(ChemPersistenceError, LookupError):
    """The store has no event of this flow."""

    def __init__(self, flow_id: UUID) -> None:
        super().__init__(f"flow {flow_id} has no events: it was never started under this id")
        self.flow_id = flow_id


class ArtifactNotFound(ChemPersistenceError, LookupError):
    """The store has no artifact with this hash."""

    def __init__(self, artifact_hash: str) -> None:
        super().__init__(f"no artifact has the hash {artifact_hash}")
        self.artifact_hash = artifact_hash


class ArtifactCorrupt(ChemPersistenceError):
    """The artifact's content does not have the hash that names it."""

    def __init__(self, artifact_hash: str, reason: str) -> None:
        super().__init__(f"artifact {artifact_hash}: {reason}")
        self.artifact_hash = artifact_hash
        self.reason = reason
