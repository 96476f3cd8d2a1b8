"""An event store in the process's own memory."""

import builtins
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import Any
from uuid import UUID

from chem_persistence.append_request import (
    EMPTY_FLOW,
    Head,
    append_request,
    check_flow_id,
    recognise,
)
from chem_persistence.clock import SystemClock
from chem_persistence.codec import StoredArtifact, StoredEvent, decode_artifact, decode_event
from chem_persistence.domain.artifacts import Artifact
from chem_persistence.domain.events import FlowEvent, FlowEventKind
from chem_persistence.errors import ArtifactNotFound, ConcurrencyConflict, InvalidArgument
from chem_persistence.limits import MAX_ARTIFACT_BYTES
from chem_persistence.ports import Clock

__all__ = ["InMemoryEventStore"]


class InMemoryEventStore:
    """Keeps the encoded bytes that PostgreSQL would keep, so that both lose the same and refuse the same.

    Safe for the tasks of one event loop, not for threads.
    """

    def __init__(self, *, clock: Clock | None = None, max_artifact_bytes: int = MAX_ARTIFACT_BYTES) -> None:
        self._clock = clock or SystemClock()
        self._max_artifact_bytes = max_artifact_bytes
        self._streams: dict[UUID, list[StoredEvent]] = {}
        self._artifacts: dict[str, StoredArtifact] = {}
        self._last_seq = 0

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
        """Append one event; see `EventStore.append_kind`."""
        events = await self.append_kinds(
            flow_id,
            [kind],
            artifacts=artifacts,
            expected_version=expected_version,
            event_ids=None if event_id is None else [event_id],
            metadata=metadata,
        )
        return events[0]

    async def append_kinds(
        self,
        flow_id: UUID,
        kinds: Sequence[FlowEventKind],
        *,
        artifacts: Sequence[Artifact] = (),
        expected_version: int | None = None,
        event_ids: Sequence[UUID] | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> builtins.list[FlowEvent]:
        """Append events, all or nothing; see `EventStore.append_kinds`."""
        request = append_request(
            flow_id,
            kinds,
            artifacts=artifacts,
            expected_version=expected_version,
            event_ids=event_ids,
            metadata=metadata,
            ts=self._clock.now(),
            max_artifact_bytes=self._max_artifact_bytes,
        )
        stream = self._streams.get(flow_id, [])
        if request.ids_given:
            ids = set(request.event_ids)
            originals = recognise(request, [event for event in stream if event.event_id in ids])
            if originals is not None:
                return originals
        if expected_version is not None and expected_version != len(stream):
            raise ConcurrencyConflict(flow_id, expected_version, len(stream))
        seqs = range(self._last_seq + 1, self._last_seq + 1 + len(kinds))
        head = Head(len(stream), stream[-1].link) if stream else EMPTY_FLOW
        appended = request.stored_events(head, seqs)
        self._streams.setdefault(flow_id, []).extend(appended)
        self._last_seq += len(appended)
        for _, artifact in request.artifacts:
            self._artifacts.setdefault(artifact.hash, artifact)
        return [decode_event(event) for event in appended]

    async def list(
        self, flow_id: UUID, *, after_version: int = -1, limit: int | None = None
    ) -> builtins.list[FlowEvent]:
        """Read a flow's events in order; see `EventStore.list`."""
        check_flow_id(flow_id)
        if limit is not None and limit < 0:
            raise InvalidArgument("limit", "must not be negative")
        start = max(after_version + 1, 0)
        stream = self._streams.get(flow_id, [])
        stop = len(stream) if limit is None else start + limit
        return [decode_event(event) for event in stream[start:stop]]

    def iterate(self, flow_id: UUID, *, after_version: int = -1) -> AsyncIterator[FlowEvent]:
        """Read a flow's events one after another; see `EventReader.iterate`."""
        check_flow_id(flow_id)
        return self._iterate(flow_id, max(after_version + 1, 0))

    async def _iterate(self, flow_id: UUID, version: int) -> AsyncIterator[FlowEvent]:
        while version < len(self._streams.get(flow_id, [])):
            yield decode_event(self._streams[flow_id][version])
            version += 1

    async def list_many(self, flow_ids: Iterable[UUID]) -> dict[UUID, builtins.list[FlowEvent]]:
        """Read whole flows; see `EventReader.list_many`."""
        return {flow_id: await self.list(flow_id) for flow_id in flow_ids}

    async def get_artifact(self, artifact_hash: str) -> Artifact:
        """Read an artifact; see `EventStore.get_artifact`."""
        stored = self._artifacts.get(artifact_hash)
        if stored is None:
            raise ArtifactNotFound(artifact_hash)
        return decode_artifact(stored)
