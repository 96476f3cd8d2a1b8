"""Flow states by replay of the events of any store."""

from collections.abc import Sequence
from uuid import UUID

from chem_persistence.domain.definition import FlowDefinition
from chem_persistence.domain.events import FlowEvent
from chem_persistence.domain.instance import FlowInstance, check_steps, initial_instance
from chem_persistence.domain.replay import replay
from chem_persistence.store.checks import check_flow_id
from chem_persistence.store.ports import EventStore
from chem_persistence.telemetry.hooks import watched_replay

__all__ = ["InMemoryFlowRepository"]


class InMemoryFlowRepository:
    """Replays the events that it is given, or those that it reads from its store."""

    def __init__(self, store: EventStore) -> None:
        self._store = store

    async def load(
        self, flow_id: UUID, events: Sequence[FlowEvent] | None, definition: FlowDefinition
    ) -> FlowInstance:
        """Return a flow's state; see `FlowRepository.load`."""
        check_flow_id(flow_id)
        begin = initial_instance(flow_id, definition)
        return await watched_replay(self._follow(begin, events, definition), flow_id)

    async def catch_up(
        self, instance: FlowInstance, events: Sequence[FlowEvent] | None, definition: FlowDefinition
    ) -> FlowInstance:
        """Return the state after the events that follow `instance`: those given, or those stored.

        Raises what `FlowRepository.load` raises, and:
            InvalidArgument: the instance has other steps than the definition.
        """
        check_steps(instance, definition)
        return await watched_replay(self._follow(instance, events, definition), instance.id)

    async def _follow(
        self, instance: FlowInstance, events: Sequence[FlowEvent] | None, definition: FlowDefinition
    ) -> FlowInstance:
        if events is None:
            events = await self._store.list(instance.id, after_version=instance.version - 1)
        return replay(instance, events, definition)
