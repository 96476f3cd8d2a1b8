"""The log of a store in memory, and the additions of an open transaction to it."""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from operator import attrgetter
from uuid import UUID

from msgspec.structs import replace

from chem_persistence.domain.artifacts import Artifact
from chem_persistence.domain.events import FlowEvent, StepSignal, event_type, is_seal
from chem_persistence.errors import ArtifactNotFound, ConcurrencyConflict, FlowSealed, StaleLease
from chem_persistence.memory.results import MemoryResults
from chem_persistence.memory.runs import MemoryRuns
from chem_persistence.store.append_request import EMPTY_FLOW, AppendRequest, Head
from chem_persistence.store.codec import (
    StoredArtifact,
    StoredEvent,
    check_readable_whole,
    decode_aside,
    decode_event,
)
from chem_persistence.store.idempotency import recognise

__all__ = ["MemoryLog"]


_seq = attrgetter("seq")
_SIGNAL = event_type(StepSignal)


def _is_seal(stored: StoredEvent) -> bool:
    return stored.event_type == _SIGNAL and is_seal(decode_event(stored).kind)


class _Numbers:
    """The store-wide numbers: ascending, each used once."""

    def __init__(self) -> None:
        self.last = 0

    def take(self, count: int) -> range:
        first, self.last = self.last + 1, self.last + count
        return range(first, self.last + 1)


class MemoryLog:
    """Streams and artifacts as encoded bytes.

    A log with another one below it shows what that one has, too, and changes only itself until
    `commit`. The rows of `runs`, and `results`, follow the events that are appended to the lowest
    log.
    """

    def __init__(self, below: "MemoryLog | None" = None, *, runs: MemoryRuns) -> None:
        self._below = below
        self.runs = runs
        self.results: MemoryResults = MemoryResults() if below is None else below.results
        self.numbers: _Numbers = _Numbers() if below is None else below.numbers
        self._appended: list[StoredEvent] = []  # to this log, in the order of seq
        self.open: dict[
            MemoryLog, int
        ] = {}  # logs above that may still commit events beyond a number
        self._streams: dict[UUID, list[StoredEvent]] = {}
        self._lengths: dict[UUID, int] = {}
        self._artifacts: dict[str, StoredArtifact] = {}
        self._producers: dict[str, tuple[UUID, int]] = {}  # flow and version of each artifact
        self._chunks: dict[UUID, Sequence[bytes]] = {}
        self._changes: list[tuple[UUID, Sequence[FlowEvent], UUID | None]] = []
        self.aside: list[UUID] = []
        """The flows that are left to no worker at the commit."""

    def stream(self, flow_id: UUID) -> Sequence[StoredEvent]:
        """Return a flow's events."""
        own = self._streams.get(flow_id)
        if own is None and self._below is not None:
            return self._below.stream(flow_id)
        return own or []

    def flow_ids(self) -> Sequence[UUID]:
        """Return the flows that have events, in the order of their first ones."""
        return list(self._streams)

    def artifact(self, artifact_hash: str) -> StoredArtifact | None:
        """Return an artifact, or None."""
        own = self._artifacts.get(artifact_hash)
        return (
            self._below.artifact(artifact_hash) if own is None and self._below is not None else own
        )

    def produced(self, flow_id: UUID) -> Sequence[tuple[int, str]]:
        """Return the artifacts first stored with a flow's events: sorted versions and hashes."""
        producers = self._producers.items()
        return sorted((version, name) for name, (flow, version) in producers if flow == flow_id)

    def chunks(self, upload_id: UUID) -> Sequence[bytes]:
        """Return the chunks of a streamed artifact."""
        if upload_id not in self._chunks and self._below is not None:
            return self._below.chunks(upload_id)
        return self._chunks[upload_id]

    async def whole_artifact(self, artifact_hash: str, limit: int) -> Artifact:
        """Return an artifact; see `EventStore.get_artifact`. `limit` is in bytes."""
        stored = self.artifact(artifact_hash)
        if stored is None:
            raise ArtifactNotFound(artifact_hash)
        if stored.upload_id is None:
            return await decode_aside(stored)
        check_readable_whole(stored, limit)
        content = b"".join(self.chunks(stored.upload_id))
        return await decode_aside(replace(stored, content=content))

    def append(self, request: AppendRequest) -> list[FlowEvent]:
        """Append events, without streamed artifacts; see `EventStore.append_kinds` and `keep`."""
        stream, expected_version = self.stream(request.flow_id), request.expected_version
        if request.ids_given:
            ids = set(request.event_ids)
            originals = recognise(request, [event for event in stream if event.event_id in ids])
            if originals is not None:
                return originals
        lease = request.lease
        if lease is not None and not request.begins and not self.runs.holds(request.flow_id, lease):
            raise StaleLease(request.flow_id)
        if stream and _is_seal(stream[-1]):
            raise FlowSealed(request.flow_id)
        if expected_version is not None and expected_version != len(stream):
            raise ConcurrencyConflict(request.flow_id, expected_version, len(stream))
        head = Head(len(stream), stream[-1].link) if stream else EMPTY_FLOW
        if self._below is not None:
            self._below.open.setdefault(self, self.numbers.last)
        appended = request.stored_events(head, self.numbers.take(len(request.kinds)))
        self._appended += appended
        if request.flow_id not in self._streams:
            self._lengths[request.flow_id] = len(stream)
            self._streams[request.flow_id] = list(stream)
        self._streams[request.flow_id] += appended
        for place, artifact in request.artifacts:
            self.keep(artifact, (request.flow_id, head.version + place))
        events = [decode_event(event) for event in appended]
        if self._below is None:
            self.results.add(events)
            self.runs.follow(request.flow_id, events, lease=lease, hold=request.hold)
        else:
            self._changes.append((request.flow_id, events, lease))
        return events

    def feed(self, after_seq: int, limit: int) -> Sequence[StoredEvent]:
        """Return the next events of all streams, up to the first number that is still open."""
        first = bisect_right(self._appended, after_seq, key=_seq)
        end = bisect_right(self._appended, self.feed_end(), key=_seq)
        return self._appended[first : min(first + limit, end)]

    def feed_before(self, seq: int, count: int) -> Sequence[StoredEvent]:
        """Return the last events of all streams up to a number, at most `count`."""
        end = bisect_right(self._appended, seq, key=_seq)
        return self._appended[max(0, end - count) : end]

    def feed_end(self) -> int:
        """Return the number up to which no open transaction can add an event."""
        return min(self.open.values(), default=self.numbers.last)

    def keep(
        self,
        artifact: StoredArtifact,
        producer: tuple[UUID, int],
        chunks: Sequence[bytes] = (),
    ) -> None:
        """Store an artifact with its event's flow and version, unless there is one of its hash."""
        if self.artifact(artifact.hash) is None:
            self._artifacts[artifact.hash] = artifact
            self._producers[artifact.hash] = producer
            if artifact.upload_id is not None:
                self._chunks[artifact.upload_id] = chunks

    def take(
        self, streams: Mapping[UUID, list[StoredEvent]], appended: Sequence[StoredEvent]
    ) -> None:
        """Take over the streams, and the new events among them, from a log above this one."""
        self._streams.update(streams)
        self._appended += appended
        self._appended.sort(key=_seq)

    def commit(self) -> None:
        """Add everything to the log below.

        Raises:
            ConcurrencyConflict: one of the flows has new events there; nothing was added.
        """
        below = self._below
        if below is None:
            return
        for flow_id, length in self._lengths.items():
            if len(below.stream(flow_id)) != length:
                raise ConcurrencyConflict(flow_id, length, len(below.stream(flow_id)))
        below.take(self._streams, self._appended)
        for artifact in self._artifacts.values():
            chunks = self._chunks.get(artifact.upload_id, ()) if artifact.upload_id else ()
            below.keep(artifact, self._producers[artifact.hash], chunks)
        for flow_id, events, lease in self._changes:
            below.results.add(events)
            below.runs.follow(flow_id, events, lease=lease)
        for flow_id in self.aside:
            below.runs.set_aside(flow_id)

    def end(self) -> None:
        """Declare that nothing more will be added to the log below."""
        if self._below is not None:
            self._below.open.pop(self, None)
