"""The ports: what the engine needs of a store, and what stores need of their surroundings."""

import builtins
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Any, Protocol, TypeAlias, runtime_checkable
from uuid import UUID

from chem_persistence.domain.answers import ArtifactProducer
from chem_persistence.domain.artifacts import Artifact
from chem_persistence.domain.definition import FlowDefinition
from chem_persistence.domain.events import FlowEvent, FlowEventKind
from chem_persistence.domain.instance import FlowInstance
from chem_persistence.domain.streams import StreamedArtifact
from chem_persistence.errors import ArtifactCorrupt, ArtifactNotFound, ArtifactTooLarge
from chem_persistence.store.feed_position import FeedPage, FeedPosition

__all__ = [
    "ArtifactLister",
    "ArtifactRead",
    "ArtifactReader",
    "Clock",
    "EventFeed",
    "EventReader",
    "EventStore",
    "EventTransaction",
    "FlowRepository",
    "StreamingEventStore",
]


class EventStore(Protocol):
    """An append-only log of events, one stream for each flow, with the events' artifacts."""

    async def append_kind(
        self,
        flow_id: UUID,
        kind: FlowEventKind,
        *,
        artifacts: Sequence[Artifact] = (),
        expected_version: int | None = None,
        event_id: UUID | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> FlowEvent:
        """Append one event and its artifacts: `append_kinds` of one."""
        ...

    async def append_kinds(
        self,
        flow_id: UUID,
        kinds: Sequence[FlowEventKind],
        *,
        artifacts: Sequence[Artifact] = (),
        expected_version: int | None = None,
        event_ids: Sequence[UUID] | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> list[FlowEvent]:
        """Append events and their artifacts to the end of a flow: all of them, or nothing.

        `expected_version` is the number of events that the caller has seen (0: the flow is empty;
        None: any number). Appending again with the same `event_ids` returns the original events. An
        artifact belongs to the event that names it (in `outputs` or `input`), else to the last one;
        one that is already stored stays as it is.

        Raises:
            ConcurrencyConflict: the flow is not at `expected_version`.
            HistoryLost: events of the flow that this store read or acknowledged are gone.
            EventIdReused: an id names an event of this flow with other content.
            InvalidPayload: a fact, the metadata or an artifact is not I-JSON or too large, or they
                are too large together; or the name of a signal is reserved for the library.
            ArtifactCorrupt: an artifact does not have the hash that names it.
            ArtifactTooLarge: an artifact is above the store's limit.
            InvalidArgument: the flow id, the event ids or the expected version can never be right.
            StoreClosed: the store was closed.
            StoreUnavailable: the store cannot be reached; the append may or may not be stored.
            StoreError: the store refused, for lack of a privilege, for example; nothing is stored.
        """
        ...

    async def list(
        self, flow_id: UUID, *, after_version: int = -1, limit: int | None = None
    ) -> list[FlowEvent]:
        """Return a flow's events in order, from the one after `after_version` on, at most `limit`.

        Raises:
            InvalidArgument: the flow id cannot name a flow, or the limit is negative.
            FlowArchived: the flow was archived, before it was read or meanwhile.
            HistoryLost: the log went back while the flow was read.
            UnreadableEvent: an event does not decode, or one is missing.
            StoreUnavailable, StoreError: the store cannot be reached, or refused.
        """
        ...

    async def get_artifact(self, artifact_hash: str) -> Artifact:
        """Return an artifact.

        Raises:
            ArtifactNotFound: the store has no artifact with this hash.
            ArtifactCorrupt: its content no longer has this hash.
            ArtifactTooLarge: it was streamed and is above the limit; `read_artifact` reads it.
            StoreUnavailable, StoreError: the store cannot be reached, or refused.
        """
        ...


class EventTransaction(Protocol):
    """Appends and streamed contents that are stored together when a block ends, or not at all."""

    async def append_kind(
        self,
        flow_id: UUID,
        kind: FlowEventKind,
        *,
        artifacts: Sequence[Artifact | StreamedArtifact] = (),
        expected_version: int | None = None,
        event_id: UUID | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> FlowEvent:
        """Append one event; see `EventStore.append_kind`."""
        ...

    async def append_kinds(
        self,
        flow_id: UUID,
        kinds: Sequence[FlowEventKind],
        *,
        artifacts: Sequence[Artifact | StreamedArtifact] = (),
        expected_version: int | None = None,
        event_ids: Sequence[UUID] | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> list[FlowEvent]:
        """Append events; see `EventStore.append_kinds`."""
        ...

    async def put_stream(
        self,
        *,
        kind: str,
        chunks: AsyncIterable[bytes],
        media_type: str,
        metadata: Mapping[str, Any] | None = None,
        max_stream_bytes: int | None = None,
    ) -> StreamedArtifact:
        """Store a binary content of any length, in pieces of any size, and return its artifact.

        Pass it to an append of the same block in `artifacts`: the end of the block raises
        `InvalidArgument` if an upload was part of no append. A content that the store has already
        is not stored twice. After an exception, also one of `chunks`, nothing of the upload is
        kept and the transaction can still be used.

        Raises:
            InvalidPayload: a piece is not bytes, there are more than `max_stream_bytes`, or the
                description is not I-JSON.
            InvalidArgument: another upload or append of this transaction is under way.
            StoreUnavailable, StoreError: the store cannot be reached, lost the connection, or
                refused.
        """
        ...

    async def list(
        self, flow_id: UUID, *, after_version: int = -1, limit: int | None = None
    ) -> builtins.list[FlowEvent]:
        """Return a flow's events, with those of this transaction; see `EventStore.list`.

        No other connection is needed. An upload of this transaction must not be under way.
        """
        ...

    async def get_artifact(self, artifact_hash: str) -> Artifact:
        """Return an artifact, also one of this transaction; see `EventStore.get_artifact`."""
        ...


@runtime_checkable
class StreamingEventStore(EventStore, Protocol):
    """An event store whose artifacts may be larger than the memory."""

    def transaction(self) -> AbstractAsyncContextManager[EventTransaction]:
        """Return a transaction: stored when its block ends, rolled back if the block raises."""
        ...

    def read_artifact(self, artifact_hash: str) -> AsyncIterator[bytes]:
        """Yield an artifact's bytes in chunks (JSON as canonical JSON).

        Memory is bounded if the artifact was streamed. The hash is compared after the last chunk:
        what was done with earlier chunks has to be undone on `ArtifactCorrupt`.

        Raises:
            ArtifactNotFound: the store has no artifact with this hash.
            ArtifactCorrupt: bytes are missing, or (after the last chunk) have another hash.
            StoreUnavailable, StoreError: the store cannot be reached, or refused.
        """
        ...


class FlowRepository(Protocol):
    """The states of flows, by replay."""

    async def load(
        self, flow_id: UUID, events: Sequence[FlowEvent] | None, definition: FlowDefinition
    ) -> FlowInstance:
        """Return a flow's state: the replay of the events given, or with None of those stored.

        The steps of a flow without events are all pending.

        Raises:
            InvalidArgument: the flow id cannot name a flow.
            FlowArchived, HistoryLost: as `EventStore.list`.
            DefinitionMismatch: the flow was started with another definition.
            UnreplayableEvent: an event contradicts those before it or the definition.
            UnreadableEvent: an event in the store does not decode.
            StoreUnavailable, StoreError: the store cannot be reached, or refused.
        """
        ...


class Clock(Protocol):
    """The source of the events' times."""

    def now(self) -> datetime:
        """Return the current time, with a time zone."""
        ...


class EventReader(Protocol):
    """More ways to read flows: a long one in bounded memory, or many at once."""

    def iterate(self, flow_id: UUID, *, after_version: int = -1) -> AsyncIterator[FlowEvent]:
        """Yield a flow's events, from the one after `after_version` on, in bounded memory.

        Events that are appended meanwhile are included; it ends when no further event is there. It
        may be abandoned at any event: it holds nothing but the events that it has read ahead.

        Raises:
            InvalidArgument: the flow id cannot name a flow.
            FlowArchived, HistoryLost: as `EventStore.list`; the events before were yielded.
            UnreadableEvent: the next event does not decode, or is missing; those before it were
                yielded.
            StoreUnavailable, StoreError: the store cannot be reached, or refused.
        """
        ...

    async def list_many(self, flow_ids: Iterable[UUID]) -> dict[UUID, list[FlowEvent]]:
        """Return all events of some flows, each flow's in order; empty for one without events.

        Raises:
            InvalidArgument: a flow id cannot name a flow.
            FlowArchived: one of the flows was archived.
            UnreadableEvent: an event does not decode, or one is missing.
            StoreUnavailable, StoreError: the store cannot be reached, or refused.
        """
        ...


ArtifactRead: TypeAlias = Artifact | ArtifactNotFound | ArtifactCorrupt | ArtifactTooLarge
"""An artifact, or the error for which it could not be read."""


@runtime_checkable
class ArtifactReader(Protocol):
    """A store that reads many artifacts in few queries; `read_artifacts` works with any store."""

    def get_artifacts(self, artifact_hashes: Sequence[str]) -> AsyncIterator[ArtifactRead]:
        """Yield artifacts in the order given, in memory bounded by bytes.

        In place of one that cannot be read, yield the error that `get_artifact` raises for it.

        Raises:
            StoreUnavailable, StoreError: the store cannot be reached, or refused.
        """
        ...


@runtime_checkable
class ArtifactLister(Protocol):
    """A store that knows with which event of a flow each artifact was stored."""

    async def list_artifacts(self, flow_id: UUID) -> list[ArtifactProducer]:
        """Return the artifacts that were first stored with events of a flow, in their order.

        An event need not name them: a signal can be appended with artifacts. One that another flow
        had stored before is listed for that flow, because equal contents are stored once.

        Raises:
            InvalidArgument: the flow id cannot name a flow.
            UnreadableEvent: an event has no time that a datetime can hold.
            StoreUnavailable, StoreError: the store cannot be reached, or refused.
        """
        ...


class EventFeed(Protocol):
    """The whole log in the order of `seq`, for subscribers: projections, dashboards, other systems.

    A subscriber that has seen a `seq` never misses an event with a smaller one that commits later:
    a page ends before the first number that an open transaction may still commit. The numbers have
    gaps, where an append failed.

    Where a subscriber is, `after_seq`, is a `FeedPosition` or a plain `seq`. With a position every
    page is checked: if the log went back after it was read, `HistoryLost` is raised. Of a plain
    `seq` nothing is known but that it was given out.

    Flows that are archived leave the feed. A subscriber that had not read one to its end is told by
    `EventsArchived`, once, and goes on from the error's `past_archive()`. Who begins with a plain
    `seq` or with `position` is told only of what is archived later.
    """

    async def read_feed(
        self, *, after_seq: int | FeedPosition = 0, limit: int = 1_000
    ) -> list[FlowEvent]:
        """Return the next events after `after_seq`, at most `limit`; empty if there are none yet.

        There are fewer than `limit`, although more follow, if they have 8 MiB of JSON together.
        `read_feed_page` also returns the position to go on from.

        Raises:
            InvalidArgument: `after_seq` or `limit` is negative, or more than 64 bits can count.
            HistoryLost: the log does not hold what was seen, or never gave out this `seq`.
            EventsArchived: flows were archived that were not read to their end.
            UnreadableEvent: an event does not decode.
            StoreUnavailable: the store cannot be reached.
            StoreError: the server is a standby, which does not know what is being written.
        """
        ...

    async def read_feed_page(
        self, after_seq: int | FeedPosition, *, limit: int = 1_000
    ) -> FeedPage:
        """Return the next events, at most `limit`, and the position after them.

        Store the position in the same transaction as what is made of the events, and go on from
        there. A plain `seq` is made into a position by `position` first.

        Raises what `read_feed` raises.
        """
        ...

    def follow(
        self, *, after_seq: int | FeedPosition = 0, poll_interval: float = 0.25
    ) -> AsyncIterator[FlowEvent]:
        """Yield the events after `after_seq`, and wait for more, without end.

        The log is read again every `poll_interval` seconds if there is no new event. No connection
        is held meanwhile, so it may be abandoned at any event. After its first page also a follower
        that began with a plain `seq` is checked.

        Raises:
            InvalidArgument: `after_seq` is negative, or `poll_interval` is not above 0.
            HistoryLost: the log does not hold what was seen, or never gave out this `seq`.
            EventsArchived: flows were archived that were not read to their end.
            UnreadableEvent: the next event does not decode; those before it were yielded.
            StoreUnavailable: the store cannot be reached.
            StoreError: the server is a standby.
        """
        ...

    def follow_with_positions(
        self, *, after_seq: int | FeedPosition = 0, poll_interval: float = 0.25
    ) -> AsyncIterator[tuple[FlowEvent, FeedPosition]]:
        """Yield each event with the position after it; otherwise like `follow`.

        Raises what `follow` raises.
        """
        ...

    async def position(self, seq: int | None = None) -> FeedPosition:
        """Return the position after the last event up to `seq`, or at the end of the feed.

        It is made of what the log holds now, so use it for a subscriber that has stored a plain
        `seq` until now, or that begins at the end. An event that the feed does not deliver yet,
        since an open transaction may commit a smaller number, is not before the position.

        Raises:
            InvalidArgument: `seq` is negative, or more than 64 bits can count.
            HistoryLost: the log never gave out this `seq`.
            StoreUnavailable, StoreError: the store cannot be reached, or is a standby.
        """
        ...

    async def newest_that_holds(self, positions: Iterable[FeedPosition]) -> FeedPosition | None:
        """Return the newest of a subscriber's positions that the log still holds, or None.

        After `HistoryLost` the subscriber goes on from there. Events that it has seen since then
        may be delivered again, under the same event ids.

        Raises:
            StoreUnavailable, StoreError: the store cannot be reached, or is a standby.
        """
        ...
