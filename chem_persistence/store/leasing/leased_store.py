"""A store as the holder of a flow appends to it."""

from collections.abc import Awaitable, Callable
from uuid import UUID

from chem_persistence.domain.artifacts import Artifact
from chem_persistence.domain.events import FlowEvent
from chem_persistence.errors import InvalidArgument
from chem_persistence.store.append_request import AppendCall
from chem_persistence.store.appender import Appender
from chem_persistence.store.checks import check_flow_id
from chem_persistence.store.leasing.hold import Hold
from chem_persistence.store.ports import Clock, EventStore

__all__ = ["LeasedEventStore"]


class LeasedEventStore(Appender[Artifact]):
    """An event store whose appends, all to one flow, carry the token of the flow's lease.

    They are passed on to `append`, and what is read comes from `store`. With `hold` a program runs
    the flow by itself: the first append takes the lease, and its first event says so.
    """

    def __init__(
        self,
        store: EventStore,
        append: Callable[[AppendCall], Awaitable[list[FlowEvent]]],
        flow_id: UUID,
        token: UUID,
        *,
        clock: Clock,
        max_artifact_bytes: int,
        hold: Hold | None = None,
    ) -> None:
        check_flow_id(flow_id)
        seen_definitions = getattr(store, "seen_definitions", None)
        super().__init__(clock, max_artifact_bytes, seen_definitions, lease=token, hold=hold)
        self._store = store
        self._append_call = append
        self._flow_id = flow_id

    def _append(self, call: AppendCall) -> Awaitable[list[FlowEvent]]:
        if call.flow_id is not self._flow_id and call.flow_id != self._flow_id:
            raise InvalidArgument("flow_id", f"the lease is of flow {self._flow_id} alone")
        return self._append_call(call)

    async def get_artifact(self, artifact_hash: str) -> Artifact:
        """Return an artifact; see `EventStore.get_artifact`."""
        return await self._store.get_artifact(artifact_hash)

    async def list(
        self, flow_id: UUID, *, after_version: int = -1, limit: int | None = None
    ) -> list[FlowEvent]:
        """Return any flow's events in order; see `EventStore.list`."""
        return await self._store.list(flow_id, after_version=after_version, limit=limit)
