"""The log of a store in memory, and the additions of an open transaction to it."""

from bisect import bisect_right
from collections.abc import Collection, Iterable, Mapping, Sequence
from operator import attrgetter
from typing import NamedTuple
from uuid import UUID

from msgspec import UNSET
from msgspec.structs import replace

from chem_persistence.domain.answers import KeptArtifact
from chem_persistence.domain.artifacts import Artifact
from chem_persistence.domain.definition import DEFINITION_KINDS
from chem_persistence.domain.events import (
    FlowEvent,
    FlowEventKind,
    FlowInitialized,
    StepFinished,
    StepSignal,
    event_type,
    is_seal,
)
from chem_persistence.errors import (
    ArtifactNotFound,
    ConcurrencyConflict,
    FlowArchived,
    FlowSealed,
    StaleLease,
    StoreError,
)
from chem_persistence.memory.register import MemoryRegister
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
from chem_persistence.store.leasing.hold import Hold

__all__ = ["MemoryLog", "is_sealed"]


_seq = attrgetter("seq")
_SIGNAL = event_type(StepSignal)
_FOREIGN_KEY_VIOLATION = "23503"


def is_sealed(stream: Sequence[StoredEvent]) -> bool:
    """Return whether the last event of a flow is its seal."""
    return (
        bool(stream) and stream[-1].event_type == _SIGNAL and is_seal(decode_event(stream[-1]).kind)
    )


class _Numbers:
    """The store-wide numbers: ascending, each used once."""

    def __init__(self) -> None:
        self.last = 0

    def take(self, count: int) -> range:
        first, self.last = self.last + 1, self.last + count
        return range(first, self.last + 1)


class _Brought(NamedTuple):
    """An artifact that came with an append, the event that brought it, and its chunks."""

    artifact: StoredArtifact
    producer: tuple[UUID, int]
    chunks: Sequence[bytes]


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
        self.register: MemoryRegister = MemoryRegister() if below is None else below.register
        self.imports = False
        """Whether flows are stored that were archived; such an id is refused otherwise."""
        self._appended: list[StoredEvent] = []  # to this log, in the order of seq
        self.open: dict[
            MemoryLog, int
        ] = {}  # logs above that may still commit events beyond a number
        self._streams: dict[UUID, list[StoredEvent]] = {}
        self._lengths: dict[UUID, int] = {}
        self._artifacts: dict[str, StoredArtifact] = {}
        self._producers: dict[str, tuple[UUID, int]] = {}  # flow and version of each artifact
        self._uses: dict[str, set[UUID]] = {}  # by flows that did not store the artifact
        self._chunks: dict[UUID, Sequence[bytes]] = {}
        self._brought: list[_Brought] = []  # to a log above, new or not
        self._changes: list[tuple[UUID, Sequence[FlowEvent], UUID | None]] = []
        self.aside: list[UUID] = []
        """The flows that are left to no worker at the commit."""

    def stream(self, flow_id: UUID) -> Sequence[StoredEvent]:
        """Return a flow's events."""
        own = self._streams.get(flow_id)
        if own is None and self._below is not None:
            return self._below.stream(flow_id)
        return own or []

    def history(self, flow_id: UUID) -> Sequence[StoredEvent]:
        """Return a flow's events, to those who read them.

        Raises:
            FlowArchived: the flow was archived.
        """
        stream = self.stream(flow_id)
        if not stream and (rows := self.register.of_flow(flow_id)):
            raise FlowArchived(flow_id, rows[-1].bundle_sha256)
        return stream

    def flow_ids(self) -> Sequence[UUID]:
        """Return the flows that have events, in the order of their first ones."""
        return list(self._streams)

    def artifact(self, artifact_hash: str) -> StoredArtifact | None:
        """Return an artifact, or None."""
        below = None if self._below is None else self._below.artifact(artifact_hash)
        return self._artifacts.get(artifact_hash) if below is None else below

    def produced(self, flow_id: UUID) -> Sequence[tuple[int, str]]:
        """Return the artifacts first stored with a flow's events: sorted versions and hashes."""
        if not self.stream(flow_id):
            return []  # those that stay of an archived flow
        producers = self._producers.items()
        return sorted((version, name) for name, (flow, version) in producers if flow == flow_id)

    def kept(self, artifact_hash: str) -> KeptArtifact | None:
        """Return an artifact that stays though its flow was archived, or None."""
        producer = self._producers.get(artifact_hash)
        if producer is None or self.stream(producer[0]):
            return None
        last = self.register.of_flow(producer[0])[-1]
        return KeptArtifact(
            artifact_hash=artifact_hash,
            flow_id=last.flow_id,
            bundle_sha256=last.bundle_sha256,
            archived_at=last.archived_at,
        )

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
        stream = self.stream(request.flow_id)
        if request.ids_given:
            ids = set(request.event_ids)
            originals = recognise(request, [event for event in stream if event.event_id in ids])
            if originals is not None:
                return originals
        self._check(request, stream)
        lease = request.lease
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
            self.follow(request.flow_id, events, lease=lease, hold=request.hold)
        else:
            self._changes.append((request.flow_id, events, lease))
        return events

    def _check(self, request: AppendRequest, stream: Sequence[StoredEvent]) -> None:
        """Check that new events may follow those of the flow, as they are expected to."""
        lease, expected = request.lease, request.expected_version
        if lease is not None and not request.begins and not self.runs.holds(request.flow_id, lease):
            raise StaleLease(request.flow_id)
        if not self.imports:
            self.history(request.flow_id)
            self._check_results(request.kinds)
        if is_sealed(stream):
            raise FlowSealed(request.flow_id)
        if expected is not None and expected != len(stream):
            raise ConcurrencyConflict(request.flow_id, expected, len(stream))

    def follow(
        self,
        flow_id: UUID,
        events: Sequence[FlowEvent],
        *,
        lease: UUID | None,
        hold: Hold | None = None,
    ) -> None:
        """Change the runs, the results and the uses of artifacts by events of the lowest log."""
        self.results.add(events)
        self.runs.follow(flow_id, events, lease=lease, hold=hold)
        for event in events:
            if isinstance(event.kind, StepFinished) and event.kind.reused_from is not UNSET:
                self.use(flow_id, event.kind.outputs)

    def _check_results(self, kinds: Iterable[FlowEventKind]) -> None:
        """Check that results which are taken over were not archived meanwhile."""
        for kind in kinds:
            if (
                isinstance(kind, StepFinished)
                and kind.reused_from is not UNSET
                and self.register.of_flow(kind.reused_from.flow_id)
                and not all(map(self.artifact, kind.outputs))
            ):
                reason = "a result that a step takes over was archived meanwhile"
                raise StoreError(reason, _FOREIGN_KEY_VIOLATION)

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
        """Store an artifact with its event's flow and version; if there is one, it is used."""
        if self._below is not None:
            self._brought.append(_Brought(artifact, producer, chunks))
        if self.artifact(artifact.hash) is not None:
            self.use(producer[0], [artifact.hash])
            return
        self._artifacts[artifact.hash] = artifact
        self._producers[artifact.hash] = producer
        if artifact.upload_id is not None:
            self._chunks[artifact.upload_id] = chunks

    def use(self, flow_id: UUID, hashes: Iterable[str]) -> None:
        """Record that a flow uses artifacts, except those that it has stored, and definitions."""
        for name in hashes:
            stored, producer = self._artifacts.get(name), self._producers.get(name)
            if stored is None or producer is None or stored.kind in DEFINITION_KINDS:
                continue
            if producer[0] != flow_id:
                self._uses.setdefault(name, set()).add(flow_id)

    def used(self, flow_id: UUID) -> list[str]:
        """Return the artifacts that a flow uses and has not stored."""
        return sorted(name for name, users in self._uses.items() if flow_id in users)

    def use_named(self, flow_id: UUID) -> None:
        """Record that a flow uses each artifact that its events name."""
        for kind in (decode_event(stored).kind for stored in self.stream(flow_id)):
            match kind:
                case StepFinished(outputs=outputs):
                    self.use(flow_id, outputs)
                case FlowInitialized(input=str() as given):
                    self.use(flow_id, [given])
                case _:
                    pass

    def remove(self, flow_ids: Collection[UUID]) -> None:
        """Delete flows, and the artifacts that no other flow uses; see `archive_flows` in SQL."""
        self._appended = [event for event in self._appended if event.flow_id not in flow_ids]
        self.results.remove(flow_ids)
        for flow_id in flow_ids:
            del self._streams[flow_id]
            self.runs.remove(flow_id)
        used = [name for name, users in self._uses.items() if users & set(flow_ids)]
        for name in used:
            self._uses[name] -= set(flow_ids)
        own = [name for name, (flow_id, _) in self._producers.items() if flow_id in flow_ids]
        for name in {*own, *used}:
            artifact = self._artifacts[name]
            is_needed = self._uses.get(name) or self._streams.get(self._producers[name][0])
            if not is_needed and artifact.kind not in DEFINITION_KINDS:
                del self._artifacts[name], self._producers[name]
                if artifact.upload_id is not None:
                    del self._chunks[artifact.upload_id]

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
            found = below.stream(flow_id) if self.imports else below.history(flow_id)
            if len(found) != length:
                raise ConcurrencyConflict(flow_id, length, len(found))
        if not self.imports:
            self._check_results(event.kind for _, events, _ in self._changes for event in events)
        below.take(self._streams, self._appended)
        for artifact, producer, chunks in self._brought:
            below.keep(artifact, producer, chunks)
        for flow_id, events, lease in self._changes:
            below.follow(flow_id, events, lease=lease)
        for flow_id in self.aside:
            below.use_named(flow_id)
            below.runs.set_aside(flow_id)

    def end(self) -> None:
        """Declare that nothing more will be added to the log below."""
        if self._below is not None:
            self._below.open.pop(self, None)
