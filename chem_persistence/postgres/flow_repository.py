"""Flow states from PostgreSQL: it reads the events, and leaves the replay to the one that memory uses."""

from collections.abc import Sequence
from uuid import UUID

from chem_persistence.domain.definition import FlowDefinition
from chem_persistence.domain.events import FlowEvent
from chem_persistence.domain.instance import FlowInstance
from chem_persistence.memory.flow_repository import InMemoryFlowRepository
from chem_persistence.ports import ConnectionProvider
from chem_persistence.postgres.event_store import PgEventStore

__all__ = ["PgFlowRepository"]


class PgFlowRepository:
    """Replays the events it is given, or those that it reads through `provider`."""

    def __init__(self, provider: ConnectionProvider) -> None:
        self._replay = InMemoryFlowRepository(PgEventStore(provider))

    async def load(
        self, flow_id: UUID, events: Sequence[FlowEvent] | None, definition: FlowDefinition
    ) -> FlowInstance:
        """Replay a flow; see `FlowRepository.load`."""
        return await self._replay.load(flow_id, events, definition)
