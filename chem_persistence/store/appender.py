"""Appending: what stores and their transactions have in common."""

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Generic, TypeVar
from uuid import UUID

from chem_persistence.domain.artifacts import Artifact
from chem_persistence.domain.events import FlowEvent, FlowEventKind
from chem_persistence.domain.streams import StreamedArtifact
from chem_persistence.errors import InvalidArgument
from chem_persistence.store.append_request import AppendRequest, append_request
from chem_persistence.store.attribution import attributed
from chem_persistence.store.ports import Clock
from chem_persistence.telemetry.hooks import watched_append

__all__ = ["Appender", "refuse_streamed"]


Given = TypeVar("Given", bound=Artifact | StreamedArtifact)


class Appender(ABC, Generic[Given]):
    """Has `append_kind` and `append_kinds`; a subclass says where to, in whose transaction, and of what artifacts."""

    def __init__(self, clock: Clock, max_artifact_bytes: int) -> None:
        self._clock = clock
        self._max_artifact_bytes = max_artifact_bytes

    @abstractmethod
    async def _append(
        self, encode: Callable[[], AppendRequest], expected_version: int | None
    ) -> list[FlowEvent]:
        """Store the request that `encode` makes, when there is room for it, and give its events."""

    async def append_kind(
        self,
        flow_id: UUID,
        kind: FlowEventKind,
        *,
        artifacts: Sequence[Given] = (),
        expected_version: int | None = None,
        event_id: UUID | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> FlowEvent:
        """Append one event; see `EventStore.append_kind`."""
        events = await self._appending(
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
        artifacts: Sequence[Given] = (),
        expected_version: int | None = None,
        event_ids: Sequence[UUID] | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> list[FlowEvent]:
        """Append events, all or nothing; see `EventStore.append_kinds`."""
        return await self._appending(
            flow_id,
            kinds,
            artifacts=artifacts,
            expected_version=expected_version,
            event_ids=event_ids,
            metadata=metadata,
        )

    def _appending(
        self,
        flow_id: UUID,
        kinds: Sequence[FlowEventKind],
        *,
        artifacts: Sequence[Given],
        expected_version: int | None,
        event_ids: Sequence[UUID] | None,
        metadata: Mapping[str, Any] | None,
    ) -> Awaitable[list[FlowEvent]]:
        """Give the work that checks an append, encodes it and stores it."""
        count, given = len(kinds), attributed(metadata)  # by the caller's scope and trace

        def encode() -> AppendRequest:
            return append_request(
                flow_id,
                kinds,
                artifacts=artifacts,
                expected_version=expected_version,
                event_ids=event_ids,
                metadata=given,
                ts=self._clock.now(),
                max_artifact_bytes=self._max_artifact_bytes,
            )

        return watched_append(self._append(encode, expected_version), flow_id, count)


def refuse_streamed(request: AppendRequest) -> None:
    """Refuse an append outside the transaction that its streamed artifacts were uploaded in.

    Raises:
        InvalidArgument: it has one.
    """
    if request.streamed:
        raise InvalidArgument(
            "artifacts", "a streamed artifact is appended in the transaction of its upload"
        )
