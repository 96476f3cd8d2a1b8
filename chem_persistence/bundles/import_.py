"""The import of a bundle into a store: all of it, or nothing."""

from asyncio import to_thread
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from uuid import UUID

import msgspec

from chem_persistence.bundles.reader import BundleReader, DescribedArtifact
from chem_persistence.bundles.verify import verify_bundle
from chem_persistence.domain.artifacts import Artifact
from chem_persistence.domain.hash_chain import GENESIS
from chem_persistence.domain.streams import StreamedArtifact
from chem_persistence.errors import (
    ArtifactCorrupt,
    ArtifactTooLarge,
    FlowArchived,
    FlowDiffers,
    InvalidArgument,
    InvalidBundle,
    InvalidPayload,
    UnreadableEvent,
)
from chem_persistence.store.append_request import AppendRequest
from chem_persistence.store.checks import MAX_ARTIFACT_BYTES
from chem_persistence.store.codec import StoredEvent
from chem_persistence.store.transfer.events import stored_request
from chem_persistence.store.transfer.ports import ImportTransaction, TransferStore

__all__ = ["ImportedBundle", "import_bundle"]

EVENTS_A_STATEMENT = 500
BYTES_A_STATEMENT = 4 * 2**20
"""At most so many events are stored by one statement, and none after so many bytes."""


class ImportedBundle(msgspec.Struct, frozen=True):
    """What an import has stored: the ids of new flows, and how many events, of how many flows."""

    flows: int
    new_flows: tuple[UUID, ...]
    new_events: int


async def import_bundle(store: TransferStore, path: Path | str) -> ImportedBundle:
    """Store the flows of a bundle, all or nothing, in one transaction.

    Ids, versions, times and links of the hash chain stay; `seq` is new. A flow that the store has
    already with the same events stays as it is, and one that has gone on since, too; one that has
    only the first of the events gets the others. So an import can be repeated. No flow of the
    bundle is given to workers: it may still run where it comes from. If something is said to it
    here (an answer, a retry, a signal), or a program runs it, it goes on here.

    Raises:
        InvalidBundle: the file is not a bundle, or was changed. The message says where.
        FlowDiffers: the store has another event of a flow than the bundle.
        ConcurrencyConflict: another writer appended to one of the flows meanwhile.
        EventIdReused: another event of a flow has the id of one of the bundle.
        ArtifactTooLarge: an artifact is above the store's limit.
        StoreUnavailable: the store cannot be reached; the import may or may not be stored.
        StoreError: the store refused, for lack of a privilege, for example.
        OSError: the file cannot be read.
    """
    path = Path(path)
    report = await to_thread(verify_bundle, path)
    if report.findings:
        raise InvalidBundle(path, *report.findings[0])
    with BundleReader(path) as bundle:
        importing = _Import(bundle, path, store)
        stored = {flow_id: await importing.count_stored(flow_id) for flow_id in bundle.flows()}
        wanted = {flow_id: count for flow_id, count in stored.items() if count is not None}
        new_flows = tuple(flow_id for flow_id, count in wanted.items() if not count)
        new_events = 0
        async with store.transaction() as transaction:
            for flow_id, count in wanted.items():
                await importing.streams(transaction, flow_id, count)
            events = importing.events(wanted)
            while batch := await to_thread(importing.next_batch, events):
                await transaction.append_stored(batch)
                new_events += len(batch)
            if new_flows:  # now that all artifacts are there
                await transaction.set_aside(new_flows)
    return ImportedBundle(report.flows, new_flows, new_events)


class _Import:
    """Stores the flows of one bundle."""

    def __init__(self, bundle: BundleReader, path: Path, store: TransferStore) -> None:
        self._bundle, self._path, self._store = bundle, path, store
        self._limit: int = getattr(store, "max_artifact_bytes", MAX_ARTIFACT_BYTES)
        self._artifacts: dict[UUID, dict[int, list[DescribedArtifact]]] = {}
        for artifact in bundle.artifacts():
            self._add(artifact.flow_id, artifact.version, artifact)
            for user in artifact.users:  # which of its events brought it is not known
                self._add(user, 0, artifact)

    def _add(self, flow_id: UUID, version: int, artifact: DescribedArtifact) -> None:
        self._artifacts.setdefault(flow_id, {}).setdefault(version, []).append(artifact)

    async def count_stored(self, flow_id: UUID) -> int | None:
        """Return how many events of a flow are stored; None if all are, and maybe more.

        Raises:
            FlowDiffers: one of them is not the bundle's.
        """
        events = self._bundle.events(flow_id, GENESIS)
        count = 0
        with suppress(FlowArchived):  # none is stored: it comes back
            async for stored in self._store.stored_events(flow_id):
                own = next(events, None)
                if own is None:
                    return None
                if own.link != stored.link:
                    raise FlowDiffers(flow_id, stored.version)
                count += 1
        return None if count and next(events, None) is None else count

    async def streams(self, transaction: ImportTransaction, flow_id: UUID, stored: int) -> None:
        """Store the contents of a flow that are sent in pieces, of events that are not stored."""
        for version, artifacts in sorted(self._artifacts.get(flow_id, {}).items()):
            for artifact in filter(self._bundle.is_streamed, artifacts):
                if version >= stored:
                    await transaction.put_stream(
                        kind=artifact.kind,
                        chunks=self._bundle.pieces(artifact),
                        media_type=artifact.media_type,
                        metadata=artifact.metadata,
                    )

    def events(self, stored: Mapping[UUID, int]) -> Iterator[StoredEvent]:
        """Yield the events of flows that follow those which are stored, flow by flow."""
        for flow_id, count in stored.items():
            every = self._bundle.events(flow_id, GENESIS)
            yield from (event for event in every if event.version >= count)

    def next_batch(self, events: Iterator[StoredEvent]) -> list[AppendRequest]:
        """Return the requests to store the next events by one statement."""
        batch: list[AppendRequest] = []
        size = 0
        while len(batch) < EVENTS_A_STATEMENT and size < BYTES_A_STATEMENT:
            event = next(events, None)
            if event is None:
                break
            batch.append(self._request(event))
            size += batch[-1].size
        return batch

    def _request(self, event: StoredEvent) -> AppendRequest:
        place = f"flows/{event.flow_id}/events.jsonl", f"version {event.version}"
        artifacts = list(self._artifacts_of(event))
        try:
            return stored_request(event, artifacts, self._limit)
        except ArtifactTooLarge:
            raise
        except (InvalidArgument, InvalidPayload, UnreadableEvent, ArtifactCorrupt) as error:
            raise InvalidBundle(self._path, *place, str(error)) from error

    def _artifacts_of(self, event: StoredEvent) -> Iterator[Artifact | StreamedArtifact]:
        for artifact in self._artifacts.get(event.flow_id, {}).get(event.version, ()):
            if not self._bundle.is_streamed(artifact):
                yield self._bundle.whole(artifact)
                continue
            yield StreamedArtifact(
                hash=artifact.hash,
                kind=artifact.kind,
                size=self._bundle.size(artifact),
                media_type=artifact.media_type,
                metadata=artifact.metadata,
            )
