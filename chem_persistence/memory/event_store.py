"""An event store in the memory of the process."""

import builtins
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from uuid import UUID

from chem_persistence.domain.answers import ArtifactProducer, artifact_producer
from chem_persistence.domain.artifacts import Artifact
from chem_persistence.domain.events import BranchCreated, FlowEvent, ResultOrigin, StepFinished
from chem_persistence.domain.streams import ContentCheck, cut
from chem_persistence.errors import ArtifactNotFound, ChemPersistenceError
from chem_persistence.memory.archiving import MemoryArchiving
from chem_persistence.memory.feed import MemoryFeedSource
from chem_persistence.memory.leases import InMemoryLeases
from chem_persistence.memory.log import MemoryLog
from chem_persistence.memory.outcomes import invalidated_among, is_listed, outcome_of, position_of
from chem_persistence.memory.runs import MemoryRuns
from chem_persistence.memory.slots import MemorySlots
from chem_persistence.memory.transaction import InMemoryTransaction
from chem_persistence.store.append_request import (
    AppendCall,
    check_no_streams,
    encode_append,
)
from chem_persistence.store.batches.appender import BatchAppender
from chem_persistence.store.checks import (
    MAX_ARTIFACT_BYTES,
    check_countable,
    check_flow_id,
    check_not_negative,
    check_poll_interval,
    check_position,
)
from chem_persistence.store.clock import SystemClock
from chem_persistence.store.codec import (
    StoredArtifact,
    StoredEvent,
    decode_event,
    verify_aside,
)
from chem_persistence.store.feed import (
    FeedReader,
    follow_feed,
    follow_with_positions,
    newest_that_holds,
    read_feed_page,
)
from chem_persistence.store.feed_position import FeedPage, FeedPosition
from chem_persistence.store.leasing.children import ChildState, is_given_up, state_after
from chem_persistence.store.leasing.hold import Hold
from chem_persistence.store.leasing.leased_store import LeasedEventStore
from chem_persistence.store.leasing.leases import Claim, check_worker
from chem_persistence.store.outcomes.reader import FlowOutcome, OutcomeFilter
from chem_persistence.store.ports import Clock
from chem_persistence.store.reuse.results import Result, TakenOver
from chem_persistence.store.transfer.ports import ArtifactLabel
from chem_persistence.telemetry.hooks import watched_read

__all__ = ["InMemoryEventStore"]


class InMemoryEventStore(BatchAppender, MemoryArchiving):
    """An event store that keeps the encoded bytes which PostgreSQL would keep.

    So both refuse the same values, and return the same. It is safe for the tasks of one event loop,
    not for threads.
    """

    def __init__(
        self, *, clock: Clock | None = None, max_artifact_bytes: int = MAX_ARTIFACT_BYTES
    ) -> None:
        super().__init__(clock or SystemClock(), max_artifact_bytes)
        self._log = MemoryLog(runs=MemoryRuns(self._clock))
        self._feed = MemoryFeedSource(self._log)
        self.slots = MemorySlots(self._log)

    async def _append(self, call: AppendCall) -> builtins.list[FlowEvent]:
        request = await encode_append(
            call, ts=self._clock.now(), max_artifact_bytes=self._max_artifact_bytes
        )
        check_no_streams(request)
        return self._log.append(request)

    async def _append_many(
        self, calls: Sequence[AppendCall]
    ) -> builtins.list[builtins.list[FlowEvent] | Exception]:
        return [await self._answer(call) for call in calls]

    async def _answer(self, call: AppendCall) -> builtins.list[FlowEvent] | Exception:
        try:
            return await self._append(call)
        except ChemPersistenceError as error:
            return error

    def leased(self, flow_id: UUID, token: UUID) -> LeasedEventStore:
        """Return this store as the holder of a flow appends to it; see `LeasingEventStore.leased`.

        Raises:
            InvalidArgument: the flow id cannot name a flow.
        """
        return self._held_store(flow_id, token, None)

    def of_program(self, claim: Claim, holder: UUID, duration: timedelta) -> LeasedEventStore:
        """Return this store as a program appends to a flow of its own; see `ProgramEventStore`.

        Raises:
            InvalidArgument: the flow id cannot name a flow, or the holder is not a UUID.
        """
        check_worker(holder)
        hold = Hold(holder, duration.total_seconds())
        return self._held_store(claim.flow_id, claim.token, hold)

    def _held_store(self, flow_id: UUID, token: UUID, hold: Hold | None) -> LeasedEventStore:
        return LeasedEventStore(
            self,
            self._append,
            flow_id,
            token,
            clock=self._clock,
            max_artifact_bytes=self._max_artifact_bytes,
            hold=hold,
        )

    @property
    def leases(self) -> InMemoryLeases:
        """The leases of the flows of this store; see `Leases`."""
        return InMemoryLeases(self)

    @property
    def runs(self) -> MemoryRuns:
        """The flows that are given to workers, for `InMemoryLeases`."""
        return self._log.runs

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[InMemoryTransaction]:
        """Open a transaction for appends and streamed contents; it is dropped if the block raises.

        It locks nothing: an append to one of its flows from outside the block comes first.

        Raises:
            ConcurrencyConflict: at the end of the block, if there was such an append.
            InvalidArgument: at the end of the block, if an upload was part of no append.
        """
        opened = InMemoryTransaction(
            self._log, self._clock, self._max_artifact_bytes, frozenset(self.seen_definitions)
        )
        try:
            yield opened
            opened.finish()
        finally:
            opened.end()

    async def list(
        self, flow_id: UUID, *, after_version: int = -1, limit: int | None = None
    ) -> builtins.list[FlowEvent]:
        """Return a flow's events in order; see `EventStore.list`."""
        check_flow_id(flow_id)
        check_not_negative(limit=limit)
        return await watched_read(
            self._list(flow_id, after_version, limit), flow_id, postgresql=False
        )

    async def _list(
        self, flow_id: UUID, after_version: int, limit: int | None
    ) -> builtins.list[FlowEvent]:
        start = max(after_version + 1, 0)
        stream = self._log.history(flow_id)
        stop = len(stream) if limit is None else start + limit
        return [decode_event(event) for event in stream[start:stop]]

    def _events(self, flow_id: UUID) -> builtins.list[FlowEvent]:
        """Return the events of a flow; none of one that was archived."""
        return [decode_event(event) for event in self._log.stream(flow_id)]

    def iterate(self, flow_id: UUID, *, after_version: int = -1) -> AsyncIterator[FlowEvent]:
        """Yield a flow's events; see `EventReader.iterate`."""
        check_flow_id(flow_id)
        return self._iterate(flow_id, max(after_version + 1, 0))

    async def _iterate(self, flow_id: UUID, version: int) -> AsyncIterator[FlowEvent]:
        while version < len(stream := self._log.history(flow_id)):
            yield decode_event(stream[version])
            version += 1

    async def stored_events(self, flow_id: UUID) -> AsyncIterator[StoredEvent]:
        """Yield a flow's events as they are stored; see `TransferStore.stored_events`."""
        check_flow_id(flow_id)
        for event in tuple(self._log.history(flow_id)):
            yield event

    async def label_artifacts(self, hashes: Collection[str]) -> Mapping[str, ArtifactLabel]:
        """Return the labels of artifacts; see `TransferStore.label_artifacts`."""
        found = {name: self._log.artifact(name) for name in hashes}
        return {
            name: ArtifactLabel(
                hash=name,
                kind=stored.kind,
                media_type=stored.media_type,
                is_json=stored.payload is not None,
                metadata=stored.metadata,
            )
            for name, stored in found.items()
            if stored is not None
        }

    async def list_many(self, flow_ids: Iterable[UUID]) -> dict[UUID, builtins.list[FlowEvent]]:
        """Return all events of some flows; see `EventReader.list_many`."""
        return {flow_id: await self.list(flow_id) for flow_id in flow_ids}

    async def child_states(self, flow_ids: Sequence[UUID]) -> dict[UUID, ChildState]:
        """Return the states of flows; see `ChildReader.child_states`."""
        return {
            flow_id: state_after(event.event_type for event in reversed(stream))
            for flow_id in flow_ids
            if (stream := self._log.stream(flow_id))
        }

    async def branches(
        self, flow_ids: Collection[UUID], limit: int
    ) -> dict[UUID, builtins.list[UUID]]:
        """Return the branches of flows; see `BranchReader.branches`."""
        made = [
            (flow_id, event.kind.branch_id)
            for flow_id in flow_ids
            for event in self._events(flow_id)
            if isinstance(event.kind, BranchCreated)
        ]
        found: dict[UUID, builtins.list[UUID]] = {}
        for flow_id, branch in made[:limit]:
            found.setdefault(flow_id, []).append(branch)
        return found

    async def child_outputs(self, flow_ids: Sequence[UUID]) -> dict[UUID, str]:
        """Return the hashes of the outputs of flows; see `ChildReader.child_outputs`."""
        outputs: dict[UUID, str] = {}
        for flow_id in flow_ids:
            for event in self._events(flow_id):
                if isinstance(event.kind, StepFinished) and event.kind.outputs:
                    outputs[flow_id] = event.kind.outputs[0]
        return outputs

    async def cancelled_flows(self, flow_ids: Collection[UUID]) -> set[UUID]:
        """Return which flows are cancelled; see `ChildReader.cancelled_flows`."""
        return {flow_id for flow_id in flow_ids if is_given_up(self._events(flow_id))}

    async def find_results(
        self, fingerprints: Sequence[str], *, most: int = 1
    ) -> dict[str, Sequence[Result]]:
        """Return the results of fingerprints; see `ResultReader.find_results`."""
        found = {each: self._log.results.find(each, most) for each in fingerprints}
        return {fingerprint: results for fingerprint, results in found.items() if results}

    async def taken_over(self, flow_id: UUID, *, limit: int = 1_000) -> builtins.list[TakenOver]:
        """Return what was taken over of a flow; see `ResultReader.taken_over`."""
        check_flow_id(flow_id)
        check_countable(limit=limit)
        return self._log.results.taken_over(flow_id, limit)

    async def flow_outcomes(
        self, flow_ids: Sequence[UUID], step: str | None
    ) -> dict[UUID, FlowOutcome]:
        """Return what became of flows; see `OutcomeReader.flow_outcomes`."""
        there = [flow_id for flow_id in flow_ids if self._log.stream(flow_id)]
        return {flow_id: outcome_of(self._events(flow_id), step)[0] for flow_id in there}

    async def invalidated_results(self, flow_ids: Sequence[UUID]) -> set[ResultOrigin]:
        """Return the invalid results of flows; see `OutcomeReader.invalidated_results`."""
        found = [invalidated_among(self._events(flow_id)) for flow_id in flow_ids]
        return set[ResultOrigin]().union(*found)

    async def list_outcomes(
        self, chosen: OutcomeFilter, step: str | None, *, before: FlowOutcome | None, limit: int
    ) -> builtins.list[FlowOutcome]:
        """Return the next flows; see `OutcomeReader.list_outcomes`."""
        found = [outcome_of(self._events(flow_id), step) for flow_id in self._log.flow_ids()]
        listed = sorted(
            (outcome for outcome, name in found if is_listed(outcome, name, chosen)),
            key=position_of,
            reverse=True,
        )
        if before is not None:
            last = position_of(before)
            listed = [outcome for outcome in listed if position_of(outcome) < last]
        return listed[:limit]

    async def read_feed(
        self, *, after_seq: int | FeedPosition = 0, limit: int = 1_000
    ) -> builtins.list[FlowEvent]:
        """Return the next events of the whole log; see `EventFeed.read_feed`."""
        check_position(after_seq)
        check_countable(limit=limit)
        events = await FeedReader(self._feed, after_seq).read(limit)
        return [decode_event(stored) for stored in events]

    async def read_feed_page(
        self, after_seq: int | FeedPosition, *, limit: int = 1_000
    ) -> FeedPage:
        """Return the next events with the position after them; see `EventFeed.read_feed_page`."""
        check_position(after_seq)
        check_countable(limit=limit)
        return await read_feed_page(self._feed, after_seq, limit)

    def follow(
        self, *, after_seq: int | FeedPosition = 0, poll_interval: float = 0.25
    ) -> AsyncIterator[FlowEvent]:
        """Yield the events of the whole log, and wait for more; see `EventFeed.follow`."""
        check_position(after_seq)
        check_poll_interval(poll_interval)
        return follow_feed(FeedReader(self._feed, after_seq), poll_interval)

    def follow_with_positions(
        self, *, after_seq: int | FeedPosition = 0, poll_interval: float = 0.25
    ) -> AsyncIterator[tuple[FlowEvent, FeedPosition]]:
        """Yield each event with its position; see `EventFeed.follow_with_positions`."""
        check_position(after_seq)
        check_poll_interval(poll_interval)
        return follow_with_positions(FeedReader(self._feed, after_seq), poll_interval)

    async def position(self, seq: int | None = None) -> FeedPosition:
        """Return a position in the feed; see `EventFeed.position`."""
        if seq is not None:
            check_countable(seq=seq)
        return await self._feed.position(seq)

    async def newest_that_holds(self, positions: Iterable[FeedPosition]) -> FeedPosition | None:
        """Return the newest position that holds; see `EventFeed.newest_that_holds`."""
        return await newest_that_holds(self._feed, positions)

    async def get_artifact(self, artifact_hash: str) -> Artifact:
        """Return an artifact; see `EventStore.get_artifact`."""
        return await self._log.whole_artifact(artifact_hash, self._max_artifact_bytes)

    async def list_artifacts(self, flow_id: UUID) -> builtins.list[ArtifactProducer]:
        """Return the artifacts stored with a flow's events; see `ArtifactLister`."""
        check_flow_id(flow_id)
        stream = self._log.stream(flow_id)
        return [
            artifact_producer(decode_event(stream[version]), artifact_hash)
            for version, artifact_hash in self._log.produced(flow_id)
        ]

    async def read_artifact(self, artifact_hash: str) -> AsyncIterator[bytes]:
        """Yield an artifact's bytes in chunks; see `StreamingEventStore.read_artifact`."""
        stored = self._stored(artifact_hash)
        if stored.upload_id is None or stored.content_size is None:
            for chunk in cut(await verify_aside(stored)):
                yield chunk
            return
        check = ContentCheck(stored.hash, stored.content_size)
        for chunk in self._log.chunks(stored.upload_id):
            yield check.take(chunk)
        check.end()

    def _stored(self, artifact_hash: str) -> StoredArtifact:
        stored = self._log.artifact(artifact_hash)
        if stored is None:
            raise ArtifactNotFound(artifact_hash)
        return stored
