"""The ports: what the engine asks of a store, and what the stores ask of the world."""

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Any, Protocol, TypeAlias, runtime_checkable
from uuid import UUID

from chem_persistence.domain.artifacts import Artifact
from chem_persistence.domain.definition import FlowDefinition
from chem_persistence.domain.events import FlowEvent, FlowEventKind
from chem_persistence.domain.instance import FlowInstance
from chem_persistence.domain.streams import StreamedArtifact
from chem_persistence.errors import ArtifactCorrupt, ArtifactNotFound, ArtifactTooLarge

__all__ = [
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
    """An append-only log of events, a stream a flow, with the artifacts that the events name."""

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

        `expected_version` is the number of events that the caller has seen (0: the flow is empty; None: whatever
        it is). Appending again with the same `event_ids` returns the original events. An artifact belongs to the event
        that names it (in `outputs` or `input`), else to the last one; one that is already stored stays as it is.

        Raises:
            ConcurrencyConflict: the flow is not at `expected_version`.
            EventIdReused: an id names an event of this flow with other content.
            InvalidPayload: a fact, the metadata or an artifact is not I-JSON, or too large, or all together are.
            ArtifactCorrupt: an artifact does not have the hash that names it.
            ArtifactTooLarge: an artifact is above the store's limit.
            InvalidArgument: the flow id, the ids or the expected version can never be right.
            StoreClosed: the store was closed.
            StoreUnavailable: the store cannot be reached; the append may or may not be stored.
            StoreError: the store refused, for want of a right, say; nothing is stored.
        """
        ...

    async def list(
        self, flow_id: UUID, *, after_version: int = -1, limit: int | None = None
    ) -> list[FlowEvent]:
        """Read a flow's events in order, from the one after `after_version` on, at most `limit`.

        Raises:
            InvalidArgument: the flow id is none, or the limit is negative.
            UnreadableEvent: an event does not decode, or one is missing.
            StoreUnavailable, StoreError: the store cannot be reached, or refused.
        """
        ...

    async def get_artifact(self, artifact_hash: str) -> Artifact:
        """Read an artifact.

        Raises:
            ArtifactNotFound: the store has none with this hash.
            ArtifactCorrupt: its content no longer has this hash.
            ArtifactTooLarge: it was streamed, and is above the store's limit: `read_artifact` gives it.
            StoreUnavailable, StoreError: the store cannot be reached, or refused.
        """
        ...


class EventTransaction(Protocol):
    """Appends and streamed contents that are stored together at the end of a block, or not at all."""

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
        """Write a binary content of any length, that comes in pieces of any size, and give the artifact that it makes.

        Hand it to an append of the same block in `artifacts`: the block fails at its end with `InvalidArgument` when there
        is an upload that no append brought. A content that the store has already is not kept twice. Whatever is raised, by
        `chunks` too, leaves nothing of the upload, and the transaction usable.

        Raises:
            InvalidPayload: a piece is no bytes, there are more than `max_stream_bytes`, or the description is not I-JSON.
            InvalidArgument: another upload or append of this transaction is under way.
            StoreUnavailable, StoreError: the store cannot be reached, lost the connection, or refused.
        """
        ...


class StreamingEventStore(EventStore, Protocol):
    """An event store whose artifacts may be larger than the memory."""

    def transaction(self) -> AbstractAsyncContextManager[EventTransaction]:
        """Open a transaction that is stored at the end of the block, and forgotten when the block raises."""
        ...

    def read_artifact(self, artifact_hash: str) -> AsyncIterator[bytes]:
        """Read an artifact's bytes, chunk by chunk (JSON as canonical JSON), in bounded memory if it was streamed.

        The hash is compared when all is read: whoever acts on chunks before the end has to undo it on `ArtifactCorrupt`.

        Raises:
            ArtifactNotFound: the store has none with this hash.
            ArtifactCorrupt: bytes are missing, or, known after the last chunk, have another hash.
            StoreUnavailable, StoreError: the store cannot be reached, or refused.
        """
        ...


class FlowRepository(Protocol):
    """The states of flows, by replay."""

    async def load(
        self, flow_id: UUID, events: Sequence[FlowEvent] | None, definition: FlowDefinition
    ) -> FlowInstance:
        """Replay the events given, or with None those in the store; a flow without events is all pending.

        Raises:
            InvalidArgument: the flow id is none.
            DefinitionMismatch: the flow was started with another definition.
            UnreplayableEvent: an event contradicts those before it or the definition.
            UnreadableEvent: an event in the store does not decode.
            StoreUnavailable, StoreError: the store cannot be reached, or refused.
        """
        ...


class Clock(Protocol):
    """Where events get their time from."""

    def now(self) -> datetime:
        """Give the present time, with its time zone."""
        ...


class EventReader(Protocol):
    """Other ways to read a log: one long flow without holding it, or many flows at once."""

    def iterate(self, flow_id: UUID, *, after_version: int = -1) -> AsyncIterator[FlowEvent]:
        """Read a flow's events one after another, from the one after `after_version` on, in bounded memory.

        What is appended meanwhile comes too; it ends where the flow ends when the end is reached. It may be abandoned
        anywhere: it keeps nothing but the events that it has read ahead.

        Raises:
            InvalidArgument: the flow id is none.
            UnreadableEvent: the next event does not decode, or is missing; those before it were given.
            StoreUnavailable, StoreError: the store cannot be reached, or refused.
        """
        ...

    async def list_many(self, flow_ids: Iterable[UUID]) -> dict[UUID, list[FlowEvent]]:
        """Read all events of some flows, each flow's in order; a flow without events has an empty list.

        Raises:
            InvalidArgument: a flow id is none.
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


class EventFeed(Protocol):
    """The whole log in the order of `seq`, for subscribers: projections, dashboards, other systems.

    Whoever has seen a `seq` never misses an event with a smaller one, also if it is committed later: a page ends before the
    first number that an open transaction may still commit. Numbers have gaps, where an append failed.
    """

    async def read_feed(self, *, after_seq: int = 0, limit: int = 1_000) -> list[FlowEvent]:
        """Read the next events after the one whose `seq` is `after_seq`, at most `limit`; none: there are none yet.

        Keep the last event's `seq` with what is made of the events, in one transaction, and go on from there.

        Raises:
            InvalidArgument: `after_seq` or `limit` is negative, or more than 64 bits can count.
            UnreadableEvent: an event does not decode.
            StoreUnavailable: the store cannot be reached.
            StoreError: the server is a standby, which does not know what is being written.
        """
        ...

    def follow(
        self, *, after_seq: int = 0, poll_interval: float = 0.25
    ) -> AsyncIterator[FlowEvent]:
        """Read the events after `after_seq` one after another, and wait for more, for ever.

        The log is looked at again every `poll_interval` seconds when there is nothing new. No connection is held in
        between, so that it may be abandoned anywhere.

        Raises:
            InvalidArgument: `after_seq` is negative, or `poll_interval` is not above 0.
            UnreadableEvent: the next event does not decode; those before it were given.
            StoreUnavailable: the store cannot be reached.
            StoreError: the server is a standby.
        """
        ...
