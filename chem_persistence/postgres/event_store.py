"""The event store on PostgreSQL."""

import builtins
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar
from uuid import UUID

from chem_persistence.append_request import AppendRequest, Head, append_request, check_flow_id
from chem_persistence.clock import SystemClock
from chem_persistence.codec import decode_artifact, decode_event
from chem_persistence.domain.artifacts import Artifact, is_artifact_hash
from chem_persistence.domain.events import FlowEvent, FlowEventKind
from chem_persistence.errors import ArtifactNotFound, ConcurrencyConflict, InvalidArgument, UnreadableEvent
from chem_persistence.limits import MAX_ARTIFACT_BYTES, MAX_VERSION
from chem_persistence.ports import Clock, Connection, ConnectionProvider
from chem_persistence.postgres.append import (
    Appended,
    Conflict,
    append,
    find_original,
    read_head,
    read_head_at,
)
from chem_persistence.postgres.flow_heads import FlowHeads
from chem_persistence.postgres.rows import stored_artifact, stored_event
from chem_persistence.postgres.session import call
from chem_persistence.postgres.statements import READ_ARTIFACT, READ_FLOW_EVENTS

__all__ = ["PgEventStore"]

PAGE_SIZE = 5_000
"""Events read at a time: as fast as one big read, in a bounded part of the memory."""

Result = TypeVar("Result")


class PgEventStore:
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
        self._provider = provider
        self._clock = clock or SystemClock()
        self._max_artifact_bytes = max_artifact_bytes
        self._heads = FlowHeads()

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
        while True:
            head = await self._head_to_append_to(request, expected_version)
            if request.ids_given:
                # read after the head: what was appended in between makes the append conflict
                originals = await self._call(lambda connection: find_original(connection, request))
                if originals is not None:
                    return originals
            outcome = await self._call(_append_to(request, head))
            if isinstance(outcome, Appended):
                self._heads.keep(flow_id, outcome.head)
                return outcome.events
            self._heads.forget(flow_id)
            if expected_version is not None:
                raise ConcurrencyConflict(flow_id, expected_version, outcome.actual)

    async def _head_to_append_to(self, request: AppendRequest, expected_version: int | None) -> Head:
        if expected_version is None:
            return await self._call(lambda connection: read_head(connection, request))
        known = self._heads.at(request.flow_id, expected_version)
        if known is not None:
            return known
        return await self._call(lambda connection: read_head_at(connection, request, expected_version))

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


def _append_to(request: AppendRequest, head: Head) -> Callable[[Connection], Awaitable[Appended | Conflict]]:
    return lambda connection: append(connection, request, head)
