"""The event store on PostgreSQL."""

import asyncio
import builtins
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from datetime import timedelta
from uuid import UUID

from chem_persistence.domain.answers import ArtifactProducer
from chem_persistence.domain.artifacts import Artifact
from chem_persistence.domain.events import FlowEvent, FlowEventKind
from chem_persistence.errors import StoreUnavailable
from chem_persistence.feed.consumer import Consumer, check_consumer, consumed_types
from chem_persistence.postgres.append.backpressure import Backpressure, OpenCalls
from chem_persistence.postgres.append.place_events import FlowHeads
from chem_persistence.postgres.append.together import append_together
from chem_persistence.postgres.append.transaction import PgTransaction, pg_transaction
from chem_persistence.postgres.append.writers import Writers
from chem_persistence.postgres.archiving import PgArchiving
from chem_persistence.postgres.connection.pool import PoolProvider
from chem_persistence.postgres.connection.ports import ConnectionProvider
from chem_persistence.postgres.connection.session import Session
from chem_persistence.postgres.consumers.admin import PgConsumerAdmin
from chem_persistence.postgres.consumers.parts import PgConsumerParts
from chem_persistence.postgres.outcomes import PgOutcomes
from chem_persistence.postgres.read.artifact_batches import read_artifact_batches
from chem_persistence.postgres.read.artifacts import (
    list_flow_artifacts,
    read_artifact_in_chunks,
    read_whole_artifact,
)
from chem_persistence.postgres.read.children import (
    list_cancelled,
    read_branches,
    read_child_outputs,
    read_child_states,
)
from chem_persistence.postgres.read.feed import PgFeedSource
from chem_persistence.postgres.read.flows import (
    iterate_events,
    iterate_stored,
    list_events,
    list_flows,
)
from chem_persistence.postgres.read.results import find_results, list_taken_over
from chem_persistence.postgres.read.search import label_artifacts
from chem_persistence.postgres.work import PgLeases
from chem_persistence.store.append_request import (
    AppendCall,
    AppendRequest,
    append_request,
    check_no_streams,
    encode_append,
    is_large_append,
)
from chem_persistence.store.batches.appender import BatchAppender
from chem_persistence.store.checks import (
    MAX_ARTIFACT_BYTES,
    MAX_WAITING,
    MAX_WAITING_BYTES,
    check_countable,
    check_flow_id,
    check_not_negative,
    check_poll_interval,
    check_position,
)
from chem_persistence.store.clock import SystemClock
from chem_persistence.store.codec import StoredEvent, decode_event
from chem_persistence.store.feed import (
    FeedReader,
    follow_feed,
    follow_with_positions,
    newest_that_holds,
    read_feed_page,
)
from chem_persistence.store.feed_position import FeedPage, FeedPosition
from chem_persistence.store.leasing.children import ChildState
from chem_persistence.store.leasing.hold import Hold
from chem_persistence.store.leasing.leased_store import LeasedEventStore
from chem_persistence.store.leasing.leases import Claim, check_worker
from chem_persistence.store.ports import ArtifactRead, Clock
from chem_persistence.store.reuse.results import Result, TakenOver
from chem_persistence.store.transfer.ports import ArtifactLabel

__all__ = ["PgEventStore"]


class PgEventStore(BatchAppender, PgOutcomes, PgArchiving):
    """The event store that appends and reads on connections of `provider`.

    Any number of tasks and processes may use it at the same time. Waiting appends are committed
    together, on at most two connections. At most `max_waiting` appends with `max_waiting_bytes`
    bytes of JSON and content are in progress; a call that is not admitted within `overload_timeout`
    seconds raises `StoreUnavailable`.
    """

    def __init__(
        self,
        provider: ConnectionProvider,
        *,
        clock: Clock | None = None,
        max_artifact_bytes: int = MAX_ARTIFACT_BYTES,
        max_waiting: int = MAX_WAITING,
        max_waiting_bytes: int = MAX_WAITING_BYTES,
        overload_timeout: float = 30.0,
    ) -> None:
        super().__init__(clock or SystemClock(), max_artifact_bytes)
        self._provider = provider
        self._open_calls = OpenCalls()
        self._backpressure = Backpressure(max_waiting, max_waiting_bytes, overload_timeout)
        self._heads = FlowHeads()
        self._writers = Writers(provider, self._heads)
        self._feed = PgFeedSource(provider)

    async def _append(self, call: AppendCall) -> builtins.list[FlowEvent]:
        with self._open_calls:
            request = self._encode_at_once(call) or await self._encode_in_turn(call)
            try:
                if not isinstance(self._provider, PoolProvider) or not self._provider.holds:
                    return await self._writers.store(request)
                with self._provider.waiting():  # maybe in the block of a transaction
                    return await self._writers.store(request)
            finally:
                self._backpressure.leave(request.size)

    async def _append_many(
        self, calls: Sequence[AppendCall]
    ) -> builtins.list[builtins.list[FlowEvent] | Exception]:
        leave = self._backpressure.leave
        with self._open_calls, self._waiting():
            return await append_together(calls, self._encoded, self._writers, leave)

    async def _encoded(self, call: AppendCall) -> AppendRequest:
        return self._encode_at_once(call) or await self._encode_in_turn(call)

    def _waiting(self) -> AbstractContextManager[None]:
        """Return a block in which a task waits for a connection, maybe in a transaction's block."""
        if isinstance(self._provider, PoolProvider) and self._provider.holds:
            return self._provider.waiting()
        return nullcontext()

    def _encode_at_once(self, call: AppendCall) -> AppendRequest | None:
        """Encode and admit an append, and return it.

        Return None if it has to wait, or is to be encoded in a thread.
        """
        if self._backpressure.is_busy or is_large_append(call):
            return None
        request = append_request(
            call, ts=self._clock.now(), max_artifact_bytes=self._max_artifact_bytes
        )
        if request.streamed:
            check_no_streams(request)
        return request if self._backpressure.admit_at_once(request.size) else None

    async def _encode_in_turn(self, call: AppendCall) -> AppendRequest:
        """Encode and admit an append behind those that wait, and return it."""
        async with self._backpressure.turn() as turn:
            request = await encode_append(
                call, ts=self._clock.now(), max_artifact_bytes=self._max_artifact_bytes
            )
            check_no_streams(request)
            await turn.admit(request.size)
            return request

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
    def leases(self) -> PgLeases:
        """The leases of the flows of this store; see `Leases`."""
        return PgLeases(self._provider)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[PgTransaction]:
        """Open a transaction for appends, streamed contents and the caller's own rows.

        It commits at the end of the block, and rolls back if the block raises. An append through
        the store itself to a flow of the transaction waits for that end: do not await it inside.
        The block is not retried, since it may do more than append: after `StoreUnavailable` run the
        whole block again with the same event ids.

        Raises:
            StoreUnavailable: if the connection is lost; the transaction may or may not be stored.
            StoreError: if the database refuses to begin or to commit, or if a statement of the
                block has failed outside a savepoint, even if its error was caught.
            StoreClosed: after `aclose`.
        """
        with self._open_calls:
            async with pg_transaction(
                self._provider,
                self._clock,
                self._max_artifact_bytes,
                self._heads,
                frozenset(self.seen_definitions),
            ) as opened:
                yield opened

    async def aclose(self, timeout: float = 30.0) -> None:  # noqa: ASYNC109  # a deadline
        """Close the store for appends, and wait at most `timeout` seconds for those in progress.

        Reads are still possible. The pool stays open: the caller closes it afterwards.

        Raises:
            StoreUnavailable: if some were not done in time; they may or may not be stored.
        """
        try:
            async with asyncio.timeout(timeout):
                await self._open_calls.close()
                await self._writers.drain()
        except TimeoutError:
            raise StoreUnavailable(
                f"{self._open_calls.count} appends were not done within {timeout} s of closing the "
                "store; they may or may not be stored"
            ) from None

    async def list(
        self, flow_id: UUID, *, after_version: int = -1, limit: int | None = None
    ) -> builtins.list[FlowEvent]:
        """Read a flow's events in order, page by page; see `EventStore.list`."""
        check_flow_id(flow_id)
        check_not_negative(limit=limit)
        return await list_events(self._provider, flow_id, after_version, limit)

    def iterate(self, flow_id: UUID, *, after_version: int = -1) -> AsyncIterator[FlowEvent]:
        """Yield a long flow's events one after another; see `EventReader.iterate`.

        They are read in pages of 5,000, and no connection is held between pages.
        """
        check_flow_id(flow_id)
        return iterate_events(self._provider, flow_id, after_version)

    def stored_events(self, flow_id: UUID) -> AsyncIterator[StoredEvent]:
        """Yield a flow's events as they are stored; see `TransferStore.stored_events`."""
        check_flow_id(flow_id)
        return iterate_stored(self._provider, flow_id)

    async def label_artifacts(self, hashes: Collection[str]) -> Mapping[str, ArtifactLabel]:
        """Return the labels of artifacts; see `TransferStore.label_artifacts`."""
        return await label_artifacts(self._provider, hashes)

    async def list_many(self, flow_ids: Iterable[UUID]) -> dict[UUID, builtins.list[FlowEvent]]:
        """Read whole flows in one query; see `EventReader.list_many`."""
        return await list_flows(self._provider, flow_ids)

    async def child_states(self, flow_ids: Sequence[UUID]) -> dict[UUID, ChildState]:
        """Read the states of flows in one query; see `ChildReader.child_states`."""
        return await read_child_states(Session(self._provider), flow_ids)

    async def branches(
        self, flow_ids: Collection[UUID], limit: int
    ) -> dict[UUID, builtins.list[UUID]]:
        """Read the branches of flows in one query; see `BranchReader.branches`."""
        return await read_branches(Session(self._provider), flow_ids, limit)

    async def child_outputs(self, flow_ids: Sequence[UUID]) -> dict[UUID, str]:
        """Read the outputs of flows in one query; see `ChildReader.child_outputs`."""
        return await read_child_outputs(Session(self._provider), flow_ids)

    async def cancelled_flows(self, flow_ids: Collection[UUID]) -> set[UUID]:
        """Read which flows are cancelled in one query; see `ChildReader.cancelled_flows`."""
        return await list_cancelled(Session(self._provider), flow_ids)

    async def find_results(
        self, fingerprints: Sequence[str], *, most: int = 1
    ) -> dict[str, builtins.list[Result]]:
        """Find results in one query; see `ResultReader.find_results`."""
        return await find_results(Session(self._provider), fingerprints, most)

    async def taken_over(self, flow_id: UUID, *, limit: int = 1_000) -> builtins.list[TakenOver]:
        """Read what was taken over of a flow; see `ResultReader.taken_over`."""
        check_flow_id(flow_id)
        check_countable(limit=limit)
        return await list_taken_over(Session(self._provider), flow_id, limit)

    async def get_artifact(self, artifact_hash: str) -> Artifact:
        """Read an artifact; see `EventStore.get_artifact`."""
        return await read_whole_artifact(self._provider, artifact_hash, self._max_artifact_bytes)

    def get_artifacts(self, artifact_hashes: Sequence[str]) -> AsyncIterator[ArtifactRead]:
        """Read many artifacts in few queries; see `ArtifactReader.get_artifacts`."""
        return read_artifact_batches(self._provider, artifact_hashes, self._max_artifact_bytes)

    async def list_artifacts(self, flow_id: UUID) -> builtins.list[ArtifactProducer]:
        """Read the artifacts stored with a flow's events; see `ArtifactLister.list_artifacts`."""
        check_flow_id(flow_id)
        return await list_flow_artifacts(self._provider, flow_id)

    async def read_feed(
        self, *, after_seq: int | FeedPosition = 0, limit: int = 1_000
    ) -> builtins.list[FlowEvent]:
        """Read the next events of the whole log; see `EventFeed.read_feed`."""
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

    def consumer(
        self,
        name: str,
        *,
        parts: int = 8,
        after_seq: int | FeedPosition = 0,
        kinds: Iterable[type[FlowEventKind]] | None = None,
    ) -> Consumer[PgTransaction]:
        """Return a durable consumer: its position is stored in this database, by its name.

        The first run of it creates it, with so many parts, each after `after_seq`; an existing one
        goes on where it is, with the parts that it has. `kinds` are the classes of facts that the
        handler gets; None means all. See `Consumer`.

        Raises:
            InvalidArgument: the name, the number of parts, `after_seq` or `kinds` is invalid.
        """
        check_consumer(name, parts)
        check_position(after_seq)
        types = consumed_types(kinds)
        consumed = PgConsumerParts(self._provider, self.transaction, name, types)
        admin = PgConsumerAdmin(self._provider, name)
        return Consumer(name, consumed, admin, self.position, count=parts, after_seq=after_seq)

    def read_artifact(self, artifact_hash: str) -> AsyncIterator[bytes]:
        """Read an artifact's bytes chunk by chunk; see `StreamingEventStore.read_artifact`.

        No connection is held between chunks, so a reader may take its time, or stop.
        """
        return read_artifact_in_chunks(self._provider, artifact_hash)
