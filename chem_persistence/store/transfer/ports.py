"""The port of stores whose flows can be taken away, and taken in from elsewhere."""

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Protocol, runtime_checkable
from uuid import UUID

import msgspec

from chem_persistence.domain.answers import KeptArtifact
from chem_persistence.store.append_request import AppendRequest
from chem_persistence.store.codec import StoredEvent
from chem_persistence.store.leasing.children import ChildState
from chem_persistence.store.ports import EventTransaction, StreamingEventStore
from chem_persistence.store.transfer.register import ArchivedFlow

__all__ = [
    "ArchiveStore",
    "ArtifactLabel",
    "ArtifactUses",
    "FlowEnd",
    "FlowHead",
    "ImportTransaction",
    "RegisterReader",
    "TransferStore",
]


class ArtifactLabel(msgspec.Struct, frozen=True, kw_only=True):
    """What a store keeps of an artifact beside its body; `metadata` is canonical JSON."""

    hash: str
    kind: str
    media_type: str
    is_json: bool
    metadata: bytes


class ImportTransaction(EventTransaction, Protocol):
    """A transaction that also stores events which another store has made."""

    async def append_stored(self, requests: Sequence[AppendRequest]) -> None:
        """Append events of flows, each a request of its own with its own time and metadata.

        The events of a flow stand side by side and in order. Raises what `EventStore.append_kinds`
        raises.
        """
        ...

    async def set_aside(self, flow_ids: Sequence[UUID]) -> None:
        """Leave flows whose events this transaction has stored to no worker.

        Each is due when something is said to it: an answer, a retry, a signal.

        Raises:
            FlowDiffers: one was archived with another end than it has now.
            StoreUnavailable, StoreError: the store cannot be reached, or refused.
        """
        ...


@runtime_checkable
class TransferStore(StreamingEventStore, Protocol):
    """An event store whose events and artifacts can be read, and stored, as they are."""

    def stored_events(self, flow_id: UUID) -> AsyncIterator[StoredEvent]:
        """Yield a flow's events with their links of the hash chain, in bounded memory.

        The JSON may have any rendering.

        Raises:
            InvalidArgument: the flow id cannot name a flow.
            UnreadableEvent: an event is missing, or lacks its time, id or link.
            StoreUnavailable, StoreError: the store cannot be reached, or refused.
        """
        ...

    async def label_artifacts(self, hashes: Collection[str]) -> Mapping[str, ArtifactLabel]:
        """Return the labels of those artifacts that are stored, by hash.

        Raises:
            ArtifactCorrupt: the metadata of an artifact does not decode.
            StoreUnavailable, StoreError: the store cannot be reached, or refused.
        """
        ...

    def transaction(self) -> AbstractAsyncContextManager[ImportTransaction]:
        """Return a transaction; see `StreamingEventStore.transaction`."""
        ...


@runtime_checkable
class ArtifactUses(Protocol):
    """A store that tells which artifacts of others a flow uses."""

    async def used_artifacts(self, flow_id: UUID) -> Sequence[str]:
        """Return the hashes of artifacts that a flow brought, and that no event of it has stored.

        Others had stored them before; no event may name them.

        Raises:
            StoreUnavailable, StoreError: the store cannot be reached, or refused.
        """
        ...


class FlowEnd(msgspec.Struct, frozen=True):
    """The end of a sealed flow: how many events it has, and the link of the last, its seal."""

    flow_id: UUID
    events: int
    link: bytes


class FlowHead(msgspec.Struct, frozen=True):
    """What a log has of a flow: how many events, and the link after as many as were asked for.

    The link is None if there are fewer.
    """

    events: int
    link: bytes | None


@runtime_checkable
class RegisterReader(Protocol):
    """A store that tells which flows left it."""

    async def read_register(self, after: int, limit: int) -> Sequence[ArchivedFlow]:
        """Return the rows of the register after a number, in order, at most `limit`.

        Raises:
            StoreUnavailable, StoreError: the store cannot be reached, or refused.
        """
        ...

    async def find_archived(self, flow_ids: Sequence[UUID]) -> Sequence[ArchivedFlow]:
        """Return the rows of the register that name some flows.

        Raises:
            StoreUnavailable, StoreError: the store cannot be reached, or refused.
        """
        ...

    async def find_kept_artifacts(self, hashes: Collection[str]) -> Sequence[KeptArtifact]:
        """Return those of some artifacts whose flows were archived, in the order of the hashes.

        The flow of an artifact is the one that stored it first. One that was imported again is in
        the log, so that its artifacts are not returned.

        Raises:
            StoreUnavailable, StoreError: the store cannot be reached, or refused.
        """
        ...

    async def heads_at(self, ends: Sequence[tuple[UUID, int]]) -> Sequence[FlowHead]:
        """Return what the log has of flows after so many events of each, in the order asked for.

        Raises:
            StoreUnavailable, StoreError: the store cannot be reached, or refused.
        """
        ...


class ArchiveStore(TransferStore, RegisterReader, Protocol):
    """A store whose sealed flows can leave it."""

    async def child_states(self, flow_ids: Sequence[UUID]) -> Mapping[UUID, ChildState]:
        """Return the states of those flows that are there; see `ChildReader.child_states`."""
        ...

    async def check_archivist(self) -> None:
        """Check that flows of this store can be archived by its user.

        Raises:
            StoreError: they cannot; nothing was changed.
            StoreUnavailable: the store cannot be reached.
        """
        ...

    async def archive_sealed(
        self, flows: Sequence[FlowEnd], *, bundle_sha256: str, actor: str
    ) -> None:
        """Delete sealed flows with the artifacts that no other flow uses, and register them.

        All at once, or nothing. The bundle must be stored already.

        Raises:
            ArchiveHeld: a consumer has not consumed a flow, or one does not end so.
            StoreUnavailable: the store cannot be reached; the flows may or may not be archived.
            StoreError: the store refused.
        """
        ...

    async def list_ended(
        self, before: datetime, *, after: UUID | None = None, limit: int = 100
    ) -> Sequence[UUID]:
        """List flows that ended before a time, in the order of their ids; children are left out.

        Raises:
            StoreUnavailable, StoreError: the store cannot be reached, or refused.
        """
        ...
