"""What a store in memory holds, and what a transaction is about to add to it."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from uuid import UUID

from chem_persistence.append_request import EMPTY_FLOW, AppendRequest, Head, recognise
from chem_persistence.codec import StoredArtifact, StoredEvent, decode_event
from chem_persistence.domain.events import FlowEvent
from chem_persistence.errors import ConcurrencyConflict

__all__ = ["MemoryLog"]


class MemoryLog:
    """Streams and artifacts as encoded bytes; one that stands on another shows that one's too, and changes only itself."""

    def __init__(self, below: "MemoryLog | None" = None) -> None:
        self._below = below
        self.seqs: Iterator[int] = count(1) if below is None else below.seqs
        self._streams: dict[UUID, list[StoredEvent]] = {}
        self._lengths: dict[UUID, int] = {}
        self._artifacts: dict[str, StoredArtifact] = {}
        self._chunks: dict[UUID, Sequence[bytes]] = {}

    def stream(self, flow_id: UUID) -> Sequence[StoredEvent]:
        """Give a flow's events."""
        own = self._streams.get(flow_id)
        if own is None and self._below is not None:
            return self._below.stream(flow_id)
        return own or []

    def artifact(self, artifact_hash: str) -> StoredArtifact | None:
        """Give an artifact."""
        own = self._artifacts.get(artifact_hash)
        return self._below.artifact(artifact_hash) if own is None and self._below is not None else own

    def chunks(self, upload_id: UUID) -> Sequence[bytes]:
        """Give the chunks of a streamed artifact."""
        return self._chunks[upload_id]

    def append(self, request: AppendRequest, expected_version: int | None) -> list[FlowEvent]:
        """Append events; see `EventStore.append_kinds`. Streamed artifacts are left to `keep`."""
        stream = self.stream(request.flow_id)
        if request.ids_given:
            ids = set(request.event_ids)
            originals = recognise(request, [event for event in stream if event.event_id in ids])
            if originals is not None:
                return originals
        if expected_version is not None and expected_version != len(stream):
            raise ConcurrencyConflict(request.flow_id, expected_version, len(stream))
        head = Head(len(stream), stream[-1].link) if stream else EMPTY_FLOW
        appended = request.stored_events(head, [next(self.seqs) for _ in request.kinds])
        if request.flow_id not in self._streams:
            self._lengths[request.flow_id] = len(stream)
            self._streams[request.flow_id] = list(stream)
        self._streams[request.flow_id] += appended
        for _, artifact in request.artifacts:
            self.keep(artifact)
        return [decode_event(event) for event in appended]

    def keep(self, artifact: StoredArtifact, chunks: Sequence[bytes] = ()) -> None:
        """Keep an artifact, unless there is one with its hash."""
        if self.artifact(artifact.hash) is None:
            self._artifacts[artifact.hash] = artifact
            if artifact.upload_id is not None:
                self._chunks[artifact.upload_id] = chunks

    def take(self, streams: Mapping[UUID, list[StoredEvent]]) -> None:
        """Let flows go on as they do in a log that stands on this one."""
        self._streams.update(streams)

    def commit(self) -> None:
        """Hand everything to the log below.

        Raises:
            ConcurrencyConflict: a flow went on there meanwhile; nothing was handed over.
        """
        below = self._below
        if below is None:
            return
        for flow_id, length in self._lengths.items():
            if len(below.stream(flow_id)) != length:
                raise ConcurrencyConflict(flow_id, length, len(below.stream(flow_id)))
        below.take(self._streams)
        for artifact in self._artifacts.values():
            below.keep(artifact, self._chunks.get(artifact.upload_id, ()) if artifact.upload_id else ())
