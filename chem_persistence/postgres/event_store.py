"""The event store on PostgreSQL."""

import builtins
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar
from uuid import UUID

from chem_persistence.append_request import check_flow_id
from chem_persistence.clock import SystemClock
from chem_persistence.codec import decode_artifact, decode_event
from chem_persistence.domain.artifacts import Artifact, is_artifact_hash
from chem_persistence.domain.events import FlowEvent, FlowEventKind
from chem_persistence.errors import ArtifactNotFound, InvalidArgument, UnreadableEvent
from chem_persistence.limits import MAX_ARTIFACT_BYTES, MAX_VERSION
from chem_persistence.ports import Clock, Connection, ConnectionProvider
from chem_persistence.postgres.appender import PgAppender
from chem_persistence.postgres.in_flight import InFlight
from chem_persistence.postgres.pg_transaction import PgTransaction, pg_transaction
from chem_persistence.postgres.rows import stored_artifact, stored_event
from chem_persistence.postgres.session import call
from chem_persistence.postgres.statements import READ_ARTIFACT, READ_FLOW_EVENTS

__all__ = ["PgEventStore"]

PAGE_SIZE = 5_000
"""Events read at a time: as fast as one big read, in a bounded part of the memory."""

Result = TypeVar("Result")


class PgEventStore(PgAppender):
    """Appends and reads on connections that `provider` lends, one for the length of each call.

    Calls may run at the same time in any number of tasks and processes.
    """

    def __init__(
        self,
        provider: ConnectionProvider,
        *,
        clock: Clock | None = None,
        max_artifact_bytes: int = MAX_ARTIFACT_BYTES,
    ) -> None:
        super().__init__(clock or SystemClock(), max_artifact_bytes)
        self._provider = provider
        self._in_flight = InFlight()

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
        """Append events, all or nothing; see `EventStore.append_kinds`.

        Raises:
            StoreClosed: after `aclose`.
        """
        with self._in_flight:
            return await super().append_kinds(
                flow_id,
                kinds,
                artifacts=artifacts,
                expected_version=expected_version,
                event_ids=event_ids,
                metadata=metadata,
            )

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[PgTransaction]:
        """Open a transaction for appends together with the caller's own rows, such as an outbox.

        It commits at the end of the block, and rolls back when the block raises. It is not retried, as only the
        caller knows his part: after `StoreUnavailable` do the whole block again with the same event ids.

        Raises:
            StoreUnavailable: the connection was lost; whether the transaction is stored is not known.
            StoreError: the database refused to begin or to commit.
            StoreClosed: after `aclose`.
        """
        with self._in_flight:
            async with pg_transaction(self._provider, self._clock, self._max_artifact_bytes) as opened:
                yield opened

    async def aclose(self, timeout: float = 30.0) -> None:  # noqa: ASYNC109  # a deadline, not a cancellation
        """Refuse new appends, and wait at most `timeout` seconds for those that were accepted.

        The pool is the caller's to close, afterwards. Reads go on until then.

        Raises:
            StoreUnavailable: some were not done by the deadline; they may or may not be stored.
        """
        await self._in_flight.close(timeout)

    async def list(
        self, flow_id: UUID, *, after_version: int = -1, limit: int | None = None
    ) -> builtins.list[FlowEvent]:
        """Read a flow's events in order, page by page; see `EventStore.list`."""
        check_flow_id(flow_id)
        if limit is not None and limit < 0:
            raise InvalidArgument("limit", "must not be negative")
        first = min(max(after_version + 1, 0), MAX_VERSION)
        events: builtins.list[FlowEvent] = []
        while limit is None or len(events) < limit:
            size = PAGE_SIZE if limit is None else min(PAGE_SIZE, limit - len(events))
            page = await self._read_page(flow_id, first + len(events), size)
            events += page
            if len(page) < size:
                break
        return events

    async def _read_page(self, flow_id: UUID, first: int, size: int) -> builtins.list[FlowEvent]:
        rows = await self._call(
            lambda connection: connection.fetch(READ_FLOW_EVENTS, flow_id, first - 1, size)
        )
        events = [decode_event(stored_event(row)) for row in rows]
        for version, event in enumerate(events, start=first):
            if event.version != version:
                raise UnreadableEvent(flow_id, version, "is missing from the log")
        return events

    async def get_artifact(self, artifact_hash: str) -> Artifact:
        """Read an artifact; see `EventStore.get_artifact`."""
        if not is_artifact_hash(artifact_hash):
            raise ArtifactNotFound(artifact_hash)
        rows = await self._call(lambda connection: connection.fetch(READ_ARTIFACT, artifact_hash))
        if not rows:
            raise ArtifactNotFound(artifact_hash)
        return decode_artifact(stored_artifact(rows[0]))

    async def _call(self, work: Callable[[Connection], Awaitable[Result]]) -> Result:
        return await call(self._provider, work)
