"""The appends that stores and their transactions have in common."""

import sys
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, Generic, TypeVar
from uuid import UUID

from chem_persistence.domain.artifacts import Artifact
from chem_persistence.domain.events import FlowEvent, FlowEventKind
from chem_persistence.domain.streams import StreamedArtifact
from chem_persistence.store.append_request import AppendCall
from chem_persistence.store.attribution import attributed, current_scope
from chem_persistence.store.leasing.hold import Hold
from chem_persistence.store.ports import Clock
from chem_persistence.telemetry.hooks import watched_append
from chem_persistence.telemetry.listening import API, found

__all__ = ["Appender"]


Given = TypeVar("Given", bound=Artifact | StreamedArtifact)


class Appender(ABC, Generic[Given]):
    """`append_kind` and `append_kinds` of a store or transaction, which implements `_append`.

    Each append carries the `lease` under which it is made, if there is one, and what holds it.
    """

    def __init__(
        self,
        clock: Clock,
        max_artifact_bytes: int,
        seen_definitions: AbstractSet[str] | None = None,
        *,
        lease: UUID | None = None,
        hold: Hold | None = None,
    ) -> None:
        self._clock = clock
        self._max_artifact_bytes = max_artifact_bytes
        self._lease = lease
        self._hold = hold
        self.seen_definitions = set() if seen_definitions is None else seen_definitions
        """The hashes of the flow definitions that were stored through this store."""

    @property
    def clock(self) -> Clock:
        """The source of the events' times."""
        return self._clock

    @property
    def max_artifact_bytes(self) -> int:
        """The number of bytes that one artifact may have."""
        return self._max_artifact_bytes

    @abstractmethod
    def _append(self, call: AppendCall) -> Awaitable[list[FlowEvent]]:
        """Encode the call with `append_request`, store it, and return its events."""

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
        event_ids = None if event_id is None else (event_id,)
        (event,) = await self._call(
            flow_id, (kind,), artifacts, expected_version, event_ids=event_ids, metadata=metadata
        )
        return event

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
        return await self._call(
            flow_id, kinds, artifacts, expected_version, event_ids=event_ids, metadata=metadata
        )

    def _call(
        self,
        flow_id: UUID,
        kinds: Sequence[FlowEventKind],
        artifacts: Sequence[Given],
        expected_version: int | None,
        *,
        event_ids: Sequence[UUID] | None,
        metadata: Mapping[str, Any] | None,
    ) -> Awaitable[list[FlowEvent]]:
        """Return the work of an append, attributed and, if a program listens, observed."""
        if current_scope.get(None) or API in sys.modules:
            metadata = attributed(metadata)
        call = AppendCall(
            flow_id,
            kinds,
            artifacts,
            expected_version,
            event_ids,
            metadata,
            self._lease,
            self._hold,
        )
        appending = self._append(call)
        if found.observer is None:
            return appending
        return watched_append(appending, flow_id, len(kinds))
