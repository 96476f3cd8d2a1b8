"""The event store on PostgreSQL."""

import builtins
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar
from uuid import UUID

import asyncpg

from chem_persistence.append_request import AppendRequest, append_request, check_flow_id
from chem_persistence.clock import SystemClock
from chem_persistence.codec import decode_artifact, decode_event
from chem_persistence.domain.artifacts import Artifact, is_artifact_hash
from chem_persistence.domain.events import FlowEvent, FlowEventKind
from chem_persistence.errors import ArtifactNotFound, ConcurrencyConflict, InvalidArgument, UnreadableEvent
from chem_persistence.limits import MAX_ARTIFACT_BYTES, MAX_VERSION
from chem_persistence.ports import Clock, Connection, ConnectionProvider
from chem_persistence.postgres.append import Conflict, append, find_original, read_version
from chem_persistence.postgres.failures import ConnectionLost
from chem_persistence.postgres.retrying import with_retries
from chem_persistence.postgres.rows import stored_artifact, stored_event
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
            version = await self._version_to_append_at(request, expected_version)
            if request.ids_given:
                # read after the version: what was appended in between makes the append conflict
                originals = await self._call(lambda connection: find_original(connection, request))
                if originals is not None:
                    return originals
            outcome = await self._call(_append_at(request, version))
            if not isinstance(outcome, Conflict):
                return outcome
            if expected_version is not None:
                raise ConcurrencyConflict(flow_id, expected_version, outcome.actual)

    async def _version_to_append_at(self, request: AppendRequest, expected_version: int | None) -> int:
        if expected_version is not None:
            return expected_version
        return await self._call(lambda connection: read_version(connection, request))

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
        async def attempt() -> Result:
            async with self._provider.acquire() as connection:
                try:
                    return await work(connection)
                except asyncpg.InterfaceError as error:
                    if _is_gone(connection):
                        raise ConnectionLost from error
                    raise

        return await with_retries(attempt)


def _append_at(
    request: AppendRequest, version: int
) -> Callable[[Connection], Awaitable[builtins.list[FlowEvent] | Conflict]]:
    return lambda connection: append(connection, request, version)


def _is_gone(connection: Connection) -> bool:
    """Say whether a lent connection has broken; the pool takes such a one back at once, and then refuses to say."""
    try:
        return connection.is_closed()
    except asyncpg.InterfaceError:
        return True
