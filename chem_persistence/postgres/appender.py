"""Appending on PostgreSQL: the one loop that finds a flow's end, appends there, and recognises a repeated append."""

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar
from uuid import UUID

from chem_persistence.append_request import EMPTY_FLOW, AppendRequest, Head, append_request
from chem_persistence.domain.artifacts import Artifact
from chem_persistence.domain.events import FlowEvent, FlowEventKind
from chem_persistence.errors import ConcurrencyConflict
from chem_persistence.ports import Clock, Connection
from chem_persistence.postgres.append import (
    Appended,
    Conflict,
    append,
    find_original,
    read_head,
    read_head_at,
)
from chem_persistence.postgres.flow_heads import FlowHeads

__all__ = ["PgAppender"]

Result = TypeVar("Result")


class PgAppender(ABC):
    """Has `append_kind` and `append_kinds`; a subclass says on which connection, and in whose transaction."""

    def __init__(self, clock: Clock, max_artifact_bytes: int) -> None:
        self._clock = clock
        self._max_artifact_bytes = max_artifact_bytes
        self._heads = FlowHeads()

    @abstractmethod
    async def _call(self, work: Callable[[Connection], Awaitable[Result]]) -> Result:
        """Do work on a connection."""

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
    ) -> list[FlowEvent]:
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
        if expected_version == 0:
            return EMPTY_FLOW  # the first append of a flow borrows no connection to learn where it begins
        known = self._heads.at(request.flow_id, expected_version)
        if known is not None:
            return known
        return await self._call(lambda connection: read_head_at(connection, request, expected_version))


def _append_to(request: AppendRequest, head: Head) -> Callable[[Connection], Awaitable[Appended | Conflict]]:
    return lambda connection: append(connection, request, head)
